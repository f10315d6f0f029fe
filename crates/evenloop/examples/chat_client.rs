//! A few users of a chat: each says hello once everybody is there, and prints what it hears.
//!
//! ```text
//! cargo run -p evenloop --example chat_streams         # in one terminal, or chat_protocol
//! cargo run -p evenloop --example chat_client          # in another
//! ```
//!
//! Another port and other numbers of users: `-- 8889 5`.

use evenloop::streams::{StreamReader, StreamWriter};
use evenloop::{gather, open_connection};
use std::io;

type User = (StreamReader, StreamWriter);

/// Comes in as `number`, after those before.
async fn come_in(port: u16, number: usize) -> io::Result<User> {
    let (reader, mut writer) = open_connection("127.0.0.1", port).await?;
    writer.write(format!("user {number}\n").as_bytes())?;
    writer.drain().await?;
    Ok((reader, writer))
}

/// Says hello, and waits until so many others have; answers what it heard.
async fn talk(number: usize, others: usize, user: User) -> io::Result<(String, User)> {
    let (mut reader, mut writer) = user;
    writer.write(format!("hello from {number}\n").as_bytes())?;
    writer.drain().await?;
    let mut heard = Vec::new();
    while heard.len() < others {
        let line = reader.readline().await?;
        heard.push(String::from_utf8_lossy(&line).trim().to_owned());
    }
    heard.sort();
    Ok((format!("user {number} heard {}", heard.join(", ")), (reader, writer)))
}

fn main() -> io::Result<()> {
    let mut args = std::env::args().skip(1);
    let port = args.next().map_or(8889, |port| port.parse().expect("a port number"));
    let users: usize = args.next().map_or(3, |users| users.parse().expect("a number of users"));
    evenloop::run(async move {
        let mut there: Vec<User> = Vec::new();
        for number in 1..=users {
            let new = come_in(port, number).await?;
            // Those who are there hear of it: so it is in before the next one comes.
            for (reader, _) in &mut there {
                assert_eq!(reader.readline().await?, format!("user {number} is here\n").as_bytes());
            }
            there.push(new); // the first is heard of by nobody; the server takes users in order
        }
        let talks = (1..).zip(there).map(|(number, user)| talk(number, users - 1, user));
        let mut open = Vec::new();
        for talk in gather(talks.collect::<Vec<_>>()).await {
            let (heard, user) = talk?;
            println!("{heard}");
            open.push(user); // nobody leaves before everybody has heard
        }
        Ok(())
    })
}
