package load

// Arrivals is what a sink saw of one run.
type Arrivals struct {
	// Packets and Bytes (of payload) that arrived.
	Packets, Bytes uint64
	// Inversions are packets that arrived after one with a higher sequence number.
	Inversions uint64
	// First and Last are arrival times in nanoseconds since 1970.
	First, Last int64
	// JitterNS is the mean, over all packets, of the interarrival jitter estimate of RFC 3550
	// section 6.4.1, in nanoseconds. The mean is steadier than the estimate's last value.
	// Packets that one system call delivers together count as arrived together.
	JitterNS float64
	// Drops are datagrams for which a socket of the sink's host had no room, by the kernel's
	// count: they came through the gateway, and were lost by the test itself.
	Drops uint64

	highest   uint64
	transit   int64
	estimate  float64
	estimates float64
}

// add counts one datagram that arrived at now.
func (a *Arrivals) add(f frame, size int, now int64) {
	transit := now - f.sent
	switch {
	case a.Packets == 0:
		a.First, a.highest = now, f.seq
	case f.seq < a.highest:
		a.Inversions++
	default:
		a.highest = f.seq
	}
	if a.Packets > 0 {
		d := float64(transit - a.transit)
		a.estimate += (max(d, -d) - a.estimate) / 16
		a.estimates += a.estimate
		a.JitterNS = a.estimates / float64(a.Packets)
	}
	a.transit, a.Last = transit, now
	a.Packets++
	a.Bytes += uint64(size)
}
