//! A coordinator that wants to join.

use baton_proto::{error::ApiError, v1};
use baton_state::{Level, Member};

use super::{check_text, invalid};
use crate::address;

/// Checks what a coordinator says about itself.
pub(crate) fn member_from_proto(request: v1::JoinRequest) -> Result<Member, ApiError> {
    let v1::JoinRequest { instance, address, peer_address, version, level } = request;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if instance.len() != 32 || !instance.bytes().all(is_hex) {
        return Err(invalid("instance", "must be 32 hexadecimal digits"));
    }
    check_address("address", &address)?;
    check_address("peer_address", &peer_address)?;
    check_text("version", &version, 64)?;
    Ok(Member { instance, address, peer_address, version, level: Level(level) })
}

/// `host:port`, where others can connect to.
fn check_address(field: &str, address: &str) -> Result<(), ApiError> {
    check_text(field, address, 255)?;
    address::check(address).map_err(|problem| invalid(field, format!("`{address}` {problem}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(address: &str) -> v1::JoinRequest {
        v1::JoinRequest {
            instance: "0".repeat(32),
            address: address.to_owned(),
            peer_address: "h:2".to_owned(),
            version: "1".to_owned(),
            level: 1,
        }
    }

    #[test]
    fn an_address_is_one_that_others_can_connect_to() {
        assert_eq!(member_from_proto(request("h:1")).unwrap().address, "h:1");
        for bad in ["", "h:0", "[::]:1"] {
            let error = member_from_proto(request(bad)).unwrap_err();
            assert!(error.message.starts_with("address: "), "{bad}: {error}");
        }
    }

    #[test]
    fn an_instance_is_made_by_baton() {
        for bad in ["", "x", &"Z".repeat(32), &"0".repeat(33)] {
            let instance = bad.to_owned();
            let refused = member_from_proto(v1::JoinRequest { instance, ..request("h:1") });
            assert!(refused.is_err(), "{bad}");
        }
    }
}
