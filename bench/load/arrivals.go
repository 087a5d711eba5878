package load

// Arrivals is what a sink saw of one run.
type Arrivals struct {
	// Packets and Bytes (of payload) that arrived.
	Packets, Bytes uint64
	// Inversions are packets that arrived after one of their flow with a higher sequence number.
	Inversions uint64
	// First and Last are arrival times in nanoseconds since 1970.
	First, Last int64
	// JitterNS is the mean, over all packets, of the interarrival jitter estimate of RFC 3550
	// section 6.4.1, in nanoseconds. The mean is steadier than the estimate's last value.
	// Packets that one system call delivers together count as arrived together. Of messages
	// that the sink must open first it is that of the sample it opens.
	JitterNS float64
	// Drops are datagrams for which a socket of the sink's host had no room, by the kernel's
	// count: they came through the gateway, and were lost by the test itself.
	Drops uint64
	// CPU is what the sink's process used, in seconds.
	CPU float64

	highest   [maxFlows]uint64
	delays    uint64 // packets whose delay is known
	transit   int64
	estimate  float64
	estimates float64
}

// add counts one datagram that arrived at now.
func (a *Arrivals) add(f frame, size int, now int64) {
	a.order(f.seq)
	a.delay(now - f.sent)
	a.count(size, now)
}

func (a *Arrivals) count(size int, now int64) {
	if a.Packets == 0 {
		a.First = now
	}
	a.Last = now
	a.Packets++
	a.Bytes += uint64(size)
}

// order compares the sequence number with those of its flow that came before.
func (a *Arrivals) order(seq uint64) {
	flow := seq >> flowShift
	if seq < a.highest[flow] {
		a.Inversions++
		return
	}
	a.highest[flow] = seq
}

func (a *Arrivals) delay(transit int64) {
	if a.delays > 0 {
		d := float64(transit - a.transit)
		a.estimate += (max(d, -d) - a.estimate) / 16
		a.estimates += a.estimate
		a.JitterNS = a.estimates / float64(a.delays)
	}
	a.transit = transit
	a.delays++
}
