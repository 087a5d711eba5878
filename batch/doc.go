// Package batch holds the shapes in which packets travel between the kernel adapters
// (internal/udp, internal/tun) and their users (fastpath, relay): a Train of equal-sized
// datagrams, a Batch of trains, a Gather of segments whose pieces lie apart, a Super that stands
// for one vectored tunnel write, and a SuperBatch of packets read from a tunnel queue. A Pacer
// says how long to wait until batches are worth reading.
//
// It is not a queue and has no behaviour beyond walking and resetting these shapes.
//
// Memory: a Batch or SuperBatch borrows slabs from a worker's bufpool.Cache when it is filled
// and gives them back in Reset, one place each. Bytes reached through a Train or a Packet are
// lent by the batch and valid until its Reset.
//
// Concurrency: a batch belongs to one goroutine at a time; nothing here locks.
package batch
