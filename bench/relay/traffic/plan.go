package traffic

import (
	"fmt"
	"time"
)

// Plan says what is sent. Both directions, if both are wanted, are sent the same at the same time.
type Plan struct {
	Up, Down bool
	// Lines is how many of the network's lines are used.
	Lines int
	// Payload is the payload of a datagram in bytes, at least MinPayload.
	Payload int
	// Train is how many datagrams follow each other on a line before the next line has its turn,
	// handed to the kernel as one message (UDP_SEGMENT); 1 is single datagrams.
	Train int
	// Rate is in datagrams per second and direction, evenly spaced: trains by their length, single
	// datagrams one by one. 0 saturates.
	Rate float64
	// Length is how long to send.
	Length time.Duration
}

func (p *Plan) check(lines int) error {
	switch {
	case p.Lines < 1 || p.Lines > lines:
		return fmt.Errorf("plan for %d lines, of which there are %d", p.Lines, lines)
	case p.Payload < MinPayload || p.Train < 1 || p.Train*(p.Payload+headerLen) > maxTrain || p.Train > maxCars:
		return fmt.Errorf("a train of %d payloads of %d bytes cannot be sent", p.Train, p.Payload)
	case p.Rate < 0 || p.Length <= 0:
		return fmt.Errorf("a rate of %v for %v makes no sense", p.Rate, p.Length)
	}
	return nil
}

// inARow is how many datagrams one call hands over: a train; of single datagrams, when a sender of
// one line saturates, as many as share a call (sendmmsg) without being a burst of their own.
func (p *Plan) inARow() int {
	if p.Train == 1 && p.Rate == 0 && p.Lines == 1 {
		return singlesInACall
	}
	return p.Train
}

// Flow is what became of one direction of a Plan.
type Flow struct {
	// Sent datagrams are those that the kernel took; Seconds is how long that went on.
	Sent    uint64
	Seconds float64
	// Delivered datagrams arrived whole and for the first time, or out of order.
	Delivered uint64
	// Corrupt arrived with other bytes, on another line or on another channel than they were sent.
	Corrupt uint64
	// Late arrived behind a later one of their line: out of order, or a second time.
	Late uint64
}

// Lost is the share of datagrams that did not arrive, 0 to 1.
func (f Flow) Lost() float64 {
	if f.Sent == 0 {
		return 0
	}
	return 1 - float64(f.Delivered)/float64(f.Sent)
}

const (
	// headerLen is the ChannelData header.
	headerLen = 4
	// maxTrain is a UDP/IPv4 datagram at most, maxCars what Linux takes since UDP_SEGMENT exists,
	// less one.
	maxTrain = 65507
	maxCars  = 63
	// singlesInACall is what keeps a saturating sender from being the slowest link.
	singlesInACall = 32
)
