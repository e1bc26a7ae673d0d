//! A server before PostgreSQL 15: so much of its protocol that it can say which version it is.
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use zerok_sync_relay::store::{Postgres, StoreError};

/// `int4`, as its object id.
const INT4: u32 = 23;

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind][..], &length, body].concat()
}

fn ready() -> Vec<u8> {
    message(b'Z', b"I")
}

/// Answers whatever it is asked with one number.
async fn answer_everything(mut client: TcpStream, number: i32) -> std::io::Result<()> {
    let mut length = [0; 4];
    client.read_exact(&mut length).await?;
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    client.read_exact(&mut startup).await?;
    client.write_all(&[message(b'R', &0_u32.to_be_bytes()), ready()].concat()).await?;
    let column = [b"n\0".as_slice(), &[0; 6], &INT4.to_be_bytes(), &4_u16.to_be_bytes(), &[255; 4], &[0, 1]].concat();
    loop {
        let kind = client.read_u8().await?;
        client.read_exact(&mut length).await?;
        let mut body = vec![0; u32::from_be_bytes(length) as usize - 4];
        client.read_exact(&mut body).await?;
        let answer = match kind {
            b'P' => message(b'1', b""),
            b'D' => [message(b't', &0_u16.to_be_bytes()), message(b'T', &[&[0, 1], &column[..]].concat())].concat(),
            b'B' => message(b'2', b""),
            b'E' => {
                let row = [&[0, 1], &4_u32.to_be_bytes()[..], &number.to_be_bytes()].concat();
                [message(b'D', &row), message(b'C', b"SELECT 1\0")].concat()
            }
            b'C' => message(b'3', b""),
            b'S' => ready(),
            _ => return Ok(()),
        };
        client.write_all(&answer).await?;
    }
}

async fn server_of_version(number: i32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://u@{}/d", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(answer_everything(client, number));
        }
    });
    url
}

#[tokio::test]
async fn a_server_before_postgresql_15_is_refused_with_what_to_do() {
    let refused = Postgres::connect(&server_of_version(14_00_22).await).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Unusable(text) if text.contains("older than PostgreSQL 15: upgrade it")),
        "{refused}"
    );

    let other = Postgres::connect(&server_of_version(15_00_00).await).await.unwrap_err();
    assert!(!other.to_string().contains("older"), "that one is refused for not being one: {other}");
}
