package udp

import "sync/atomic"

// Stats is a snapshot of what a Socket has counted since it was opened.
type Stats struct {
	// RecvTrains, RecvDatagrams and RecvBytes count what Recv delivered (UDP payload bytes).
	RecvTrains, RecvDatagrams, RecvBytes uint64
	// RecvTruncated counts messages dropped because their bytes or control data were cut off.
	RecvTruncated uint64
	// RecvMalformed counts messages dropped because they were empty, came without a usable
	// address or with an impossible segment size.
	RecvMalformed uint64
	// RecvOverflow is how many datagrams the kernel dropped at the full receive buffer, as last
	// reported with a message (SO_RXQ_OVFL): it lags until the next message after a drop.
	RecvOverflow uint64

	// SentTrains counts trains that left completely; SentDatagrams and SentBytes what left.
	SentTrains, SentDatagrams, SentBytes uint64
	// SplitTrains counts trains of several segments sent as single datagrams.
	SplitTrains uint64
	// GSORefused counts destinations marked after the kernel refused a train for them.
	GSORefused uint64
	// GSODisabled is 1 once the table of such destinations overflowed and UDP_SEGMENT was
	// switched off for the whole socket.
	GSODisabled uint64
	// SourceGone counts sends repeated without their pinned source address because the kernel
	// refused it.
	SourceGone uint64
	// SendBlocked counts Send calls that ended at a full send buffer.
	SendBlocked uint64

	// SendUnreachable … SendOther count datagrams given up, by the kernel's reason; the segments
	// of a train that left before the error are counted as sent.
	SendUnreachable uint64 // ENETUNREACH, EHOSTUNREACH, ENETDOWN
	SendProhibited  uint64 // EPERM, EACCES: a packet filter or policy route says no
	SendRefused     uint64 // ECONNREFUSED
	SendTooLong     uint64 // EMSGSIZE for a single datagram
	SendNoMemory    uint64 // ENOBUFS, ENOMEM
	SendInvalid     uint64 // empty train, counted as one, or an address of the other family
	SendOther       uint64 // any other error
}

// counters is Stats as written by the loops. Each is touched at most a few times a call.
type counters struct {
	recvTrains, recvDatagrams, recvBytes      atomic.Uint64
	recvTruncated, recvMalformed, recvOverrun atomic.Uint64

	_ [64]byte // the two loops may run on different cores

	sentTrains, sentDatagrams, sentBytes             atomic.Uint64
	splitTrains, gsoRefused, gsoDisabled, sourceGone atomic.Uint64
	sendBlocked                                      atomic.Uint64
	unreachable, prohibited, refused, tooLong        atomic.Uint64
	noMemory, invalid, other                         atomic.Uint64
}

// Sent returns the SentDatagrams and SentBytes of Stats, for who asks before and after each call.
func (s *Socket) Sent() (datagrams, bytes uint64) {
	return s.count.sentDatagrams.Load(), s.count.sentBytes.Load()
}

// Stats returns a snapshot; each field is exact, the set of them is not one instant.
func (s *Socket) Stats() Stats {
	c := &s.count
	return Stats{
		RecvTrains:      c.recvTrains.Load(),
		RecvDatagrams:   c.recvDatagrams.Load(),
		RecvBytes:       c.recvBytes.Load(),
		RecvTruncated:   c.recvTruncated.Load(),
		RecvMalformed:   c.recvMalformed.Load(),
		RecvOverflow:    c.recvOverrun.Load(),
		SentTrains:      c.sentTrains.Load(),
		SentDatagrams:   c.sentDatagrams.Load(),
		SentBytes:       c.sentBytes.Load(),
		SplitTrains:     c.splitTrains.Load(),
		GSORefused:      c.gsoRefused.Load(),
		GSODisabled:     c.gsoDisabled.Load(),
		SourceGone:      c.sourceGone.Load(),
		SendBlocked:     c.sendBlocked.Load(),
		SendUnreachable: c.unreachable.Load(),
		SendProhibited:  c.prohibited.Load(),
		SendRefused:     c.refused.Load(),
		SendTooLong:     c.tooLong.Load(),
		SendNoMemory:    c.noMemory.Load(),
		SendInvalid:     c.invalid.Load(),
		SendOther:       c.other.Load(),
	}
}
