//! What replication asks of the other members, over the network.

use std::collections::BTreeMap;

use baton_proto::peer;
use baton_state::NodeId;
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream::BoxStream,
};
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use super::{Directory, directory::Peer};
use crate::replication::{Answers, Members, NotGiven};

impl Members for Directory {
    fn others(&self) -> BTreeMap<NodeId, String> {
        addresses(&self.peers().borrow())
    }

    fn follow(&self) -> BoxStream<'static, BTreeMap<NodeId, String>> {
        WatchStream::new(self.peers()).map(|peers| addresses(&peers)).boxed()
    }

    fn watch_files(
        &self,
        node: NodeId,
    ) -> BoxFuture<'_, Result<Answers<peer::WatchFilesResponse>, NotGiven>> {
        async move {
            let mut client = self.member(node)?.control();
            let request = peer::WatchFilesRequest { hello: Some(self.hello(node)) };
            let told = client.watch_files(request).await.map_err(refused)?;
            Ok(told.into_inner().map_err(refused).boxed())
        }
        .boxed()
    }

    fn read_file(
        &self,
        node: NodeId,
        name: peer::FileName,
        offset: u64,
    ) -> BoxFuture<'_, Result<Answers<peer::ReadFileResponse>, NotGiven>> {
        async move {
            let mut client = self.member(node)?.bulk();
            let hello = Some(self.hello(node));
            let request = peer::ReadFileRequest { hello, name: Some(name), offset };
            let read = client.read_file(request).await.map_err(refused)?;
            Ok(read.into_inner().map_err(refused).boxed())
        }
        .boxed()
    }
}

impl Directory {
    fn member(&self, node: NodeId) -> Result<Peer, NotGiven> {
        self.peer(node).ok_or_else(|| NotGiven("it is no member any more".to_owned()))
    }
}

fn addresses(peers: &BTreeMap<NodeId, Peer>) -> BTreeMap<NodeId, String> {
    peers.iter().map(|(node, peer)| (*node, peer.address.clone())).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn refused(status: Status) -> NotGiven {
    NotGiven(format!("{}: {}", status.code(), status.message()))
}
