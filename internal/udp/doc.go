// Package udp moves trains of datagrams between UDP sockets and batches: many datagrams a
// message by UDP_GRO and UDP_SEGMENT, many messages a system call by recvmmsg and sendmmsg.
//
// It is not a transport: it keeps no peers, retries nothing that the kernel has taken, and
// looks into no datagram. A worker of internal/node or relay owns one Socket per address
// family out of a Group, whose members share one port by SO_REUSEPORT.
//
// A relay also has a socket for each relayed port: OpenPort. It cuts trains apart and puts them
// together differently on the way, without copying: SendGathers.
//
// Memory: a Scratch holds the message headers, addresses and control buffers of calls. Sockets of
// a group have one each, unless they are told to Share one; ports share their worker's. Recv and
// Send allocate nothing. Received bytes lie in slabs lent by the batch.
//
// Concurrency: Recv belongs to one goroutine at a time, Send to one (another one, if wished), for
// all sockets of a Scratch together;
// Stats, Buffers, MaxSegments and Group.SetMark may be called from anywhere. Group.Close comes
// after the loops have ended.
//
// Every call of the loops is non-blocking (MSG_DONTWAIT) and therefore goes through
// RawSyscall6, which spares the Go scheduler's bookkeeping of blocking calls.
package udp
