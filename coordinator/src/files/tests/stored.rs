//! Looking at files, listing them, and reading uploads.

use std::collections::BTreeMap;

use super::*;

#[tokio::test]
async fn an_upload_is_read_from_any_offset_in_chunks_that_fit_a_message() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let content: Vec<u8> = (0_u32..700_000).flat_map(u32::to_le_bytes).collect();
    let name = upload_name(&content);
    store(&files, name, &content).await;
    for offset in [0, 1, baton_proto::MAX_CHUNK, content.len() - 1, content.len()] {
        let mut reader = files.read(name, offset as u64).await.unwrap();
        assert_eq!(reader.length(), content.len() as u64);
        let mut chunks = Vec::new();
        while let Some(chunk) = reader.next().await.unwrap() {
            chunks.push(chunk);
        }
        assert!(chunks.iter().all(|chunk| chunk.len() <= baton_proto::MAX_CHUNK));
        assert_eq!(chunks.concat(), &content[offset..]);
    }
    let beyond = files.read(name, content.len() as u64 + 1).await;
    assert!(matches!(beyond, Err(FilesError::OffsetGap { .. })));
}

#[tokio::test]
async fn an_upload_that_was_damaged_on_disk_is_never_read_to_its_end_as_if_it_were_whole() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let content = [7; 3000];
    let name = upload_name(&content);
    store(&files, name, &content).await;
    for damaged in [&b""[..], &content[..2999], &[8; 3000]] {
        std::fs::write(name.sealed_path(&files.inner.root), damaged).unwrap();
        let mut reader = files.read(name, 0).await.unwrap();
        let end = loop {
            match reader.next().await {
                Ok(Some(_)) => {}
                end => break end,
            }
        };
        assert!(matches!(end, Err(FilesError::Damaged { .. })), "{end:?}");
    }
}

#[tokio::test]
async fn an_upload_that_is_not_sealed_cannot_be_read() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abc");
    let mut appender = files.append(name, 3).await.unwrap();
    appender.write(0, Bytes::from_static(b"abc")).await.unwrap();
    assert!(matches!(files.read(name, 0).await, Err(FilesError::NotFound(_))));
    appender.seal(3, digest(b"abc")).await.unwrap();
    let chunk = files.read(name, 0).await.unwrap().next().await.unwrap();
    assert_eq!(chunk, Some(Bytes::from_static(b"abc")));
}

#[tokio::test]
async fn all_files_are_listed_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let log = complete(&[(Kind::Stdout, b"x")]);
    let mut expected = BTreeMap::new();
    for number in 0..300 {
        store(&files, log_name(number), &log).await;
        expected.insert(log_name(number), (log.len() as u64, true));
    }
    let growing = upload_name(b"grow");
    let mut appender = files.append(growing, 4).await.unwrap();
    appender.write(0, Bytes::from_static(b"gr")).await.unwrap();
    expected.insert(growing, (2, false));
    std::fs::write(log_name(1).folder(&files.inner.root).join("stray"), "x").unwrap();
    std::fs::write(files.inner.root.join("log/stray"), "x").unwrap();

    let mut listing = files.list();
    let mut listed = BTreeMap::new();
    while let Some(file) = listing.next().await.unwrap() {
        assert!(listed.insert(file.name, (file.length, file.sealed)).is_none());
    }
    assert_eq!(listed, expected);
}
