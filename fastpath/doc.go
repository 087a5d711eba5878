// Package fastpath is the data plane: it carries packets between UDP sockets and tunnel queues in
// batches, and decides nothing. What it needs to know it reads from a fib.Table; what it cannot
// carry it hands to control through bounded rings (Punts), by copy, or counts and drops.
//
// It does no I/O of its own: Decap and Encap are steps on memory, which tests, fuzzers and
// benchmarks drive without a socket. A Worker puts them between a Socket, a Queue and a Poller,
// which it calls once per batch.
//
// # From client to resource (decap.go)
//
//	receive   trains of datagrams, decrypted where they lie
//	classify  first bytes: data, signal (to control), unknown      classify.go
//	match     receiver index → session                             fib
//	open      a run of one session in one call
//	accept    replay window, after authentication
//	order     what the network swapped within one train
//	touch     confirms the session, stamps activity, follows a peer that roams
//	parse     inner packet, all bounds
//	own       source is the peer's: of its allowed IPs, or of its policy's tunnel addresses
//	coalesce  neighbours of a flow → superpackets, by reference    coalesce.go
//	admit     the policy's answer, once a superpacket              admit.go
//	translate NAT and NAT64, on the superpacket's one header       admit.go
//	write     one vectored write a superpacket                     worker.go
//
// # From resource to client (encap.go)
//
//	read      packets and superpackets
//	parse     headers of the whole, once
//	route     destination → peer                                   fib
//	untranslate, admit  what the client knows it as; its policy    reply.go
//	next hop  path and newest confirmed session
//	plan      the superpacket against what its offload says
//	number    counters for all its packets, one atomic add
//	reserve   room at the tail of the path's newest train          trains.go
//	cut       each packet with its own headers and checksums
//	seal      a run in one call
//	send      one system call for many trains                      sender.go
//
// A peer without a policy skips admit and translate. Coalescing comes before them, so that filter
// and NAT look at one header for up to 64 KiB; it cannot join what policy would tell apart, since
// it joins only packets of one 5-tuple and of one peer. Within a batch a decision is kept for the
// packets that follow (flowcache.go), so that a run costs one look-up in the policy and one lock of
// the NAT table whatever its packets look like. Packets with a Reply… verdict are offered to
// control, which makes the ICMP error.
//
// # Who may touch what
//
//	a Decap, an Encap, a Worker's batches    the worker's goroutine
//	their Counters                           written by it, read by anyone
//	fib.Table, Peer, Session                 read by all; what loops write there is atomic, or
//	                                         behind a lock taken once per run
//	a Punts ring                             pushed by the worker, popped by control
//
// # Memory
//
// Slabs belong to the batch that holds them; the bytes of trains, packets and superpackets are
// lent until that batch is reset. Everything else is allocated by NewWorker: a steady worker
// allocates nothing, and the single thing it ever allocates is a new path when a peer moves.
//
// # Order
//
// Packets of one flow leave in the order of their counters within a train and in order of arrival
// between trains, while the kernel keeps the flow on one queue and the peer on one socket. When
// it moves them to another worker, two workers may overtake each other.
package fastpath
