//! The face under ThreadSanitizer: std's atomics, a mutex and condvar on `pthread_*`, fences as read-modify-writes.

compile_error!("the ThreadSanitizer face is not there yet");
