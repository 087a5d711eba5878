// Package poll lets one worker wait for its sockets and queues, for a bell that other goroutines
// ring, and for a time, with one system call.
//
// A Set holds a handful of descriptors and answers with bits, a Crowd thousands and answers with a
// list.
//
// It is not a scheduler: it knows file descriptors by the tags a worker gives them and says which
// are readable. How long to wait, and when to poll instead, is the worker's policy.
//
// Concurrency: Ring may be called from anywhere, everything else from the one goroutine that
// waits. Close comes after that goroutine and all ringers have ended.
package poll
