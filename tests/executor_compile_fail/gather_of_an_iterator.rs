//! What can be iterated over goes to `gather_all`.

fn main() {
    evenloop::run(async {
        evenloop::gather((1..=3).map(|n| async move { n * n })).await;
    });
}
