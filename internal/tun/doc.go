// Package tun opens multiqueue TUN interfaces and moves packets and superpackets between their
// queues and batches, with the virtio-net header that lets the kernel cut and sum them.
//
// It gives interfaces no addresses and no routes (internal/host does), and looks into packets
// only as far as the header's promises must be checked.
//
// Memory: Read puts each packet straight into a slab lent by the batch, with the virtio-net
// header in the slab's headroom; Write gathers a superpacket from where its pieces lie and
// overwrites only its SuperHeadroom. Neither allocates or copies packet bytes.
//
// Concurrency: a Queue is read by one goroutine at a time and written by one (another one, if
// wished). Stats, MTU, Caps and Events may be called from anywhere. Close comes after the
// loops have ended.
//
// The queues are non-blocking; their calls go through RawSyscall, which spares the Go
// scheduler's bookkeeping of blocking calls.
package tun
