//! A task may outlive whoever started it, so it cannot borrow; the children of a `BorrowingGroup` can.

fn main() {
    evenloop::run(async {
        let words = String::from("here");
        let task = evenloop::create_task(async { words.len() });
        task.await
    });
}
