// Package channel holds the two websocket ends of protocol/signal: Conn, with which a gateway,
// client or relay stays in touch with its portal, and Server, with which a portal serves them.
// What to say and when to come back is decided by signal.Session; this package owns the sockets,
// the clock and the goroutines.
//
// # Conn
//
// A Conn is one goroutine that drives the session, and per websocket one that reads and one that
// writes. Callers use Send and Next from any goroutine. Both queues are bounded: a full outbox
// refuses the newest message, a full inbox stops reading from the network, so that the portal
// feels it, and if that lasts for forty seconds the session reconnects and gets a fresh init.
// Nothing in the outbox survives a connection. All addresses of the portal's host are tried at
// once and the first to answer is used; they are looked up anew for every attempt.
//
// # Server
//
// A Link is one goroutine that waits in a read, and for as long as there is something to write a
// second one. An idle link keeps no message buffer and only small buffers for framing, so that
// five thousand cost tens of megabytes. A link whose queue is full is cut, and others do not
// notice; what others may have it sent is dropped before that. A device that says too much is read
// at the rate it may have. Nothing is read while a handler is called: one that blocks stops that
// device, nobody else. Who wants to know that a message has gone out names it in the
// message, and is told by a signal.Pushed.
//
// # Secrets
//
// The token leaves in one header only. Errors carry no URL, no header and no message.
package channel
