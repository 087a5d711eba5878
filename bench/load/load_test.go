package load

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"
)

func TestArrivalsCountInversionsAndJitter(t *testing.T) {
	var a Arrivals
	for i, seq := range []uint64{0, 1, 3, 2, 4} {
		// Sent 1000 ns apart; the fourth arrives 160 ns late.
		late := int64(0)
		if i == 3 {
			late = 160
		}
		a.add(frame{seq: seq, sent: int64(i) * 1000}, 64, int64(i)*1000+500+late)
	}
	if a.Packets != 5 || a.Bytes != 320 || a.Inversions != 1 {
		t.Errorf("got %d packets, %d bytes, %d inversions; want 5, 320, 1", a.Packets, a.Bytes, a.Inversions)
	}
	// RFC 3550: 160/16 = 10 after the late one, 10 + (160-10)/16 = 19.375 after the next.
	if want := (10 + 19.375) / 4; a.JitterNS != want {
		t.Errorf("jitter %v, want %v", a.JitterNS, want)
	}
	if a.First != 500 || a.Last != 4500 {
		t.Errorf("from %d to %d, want 500 to 4500", a.First, a.Last)
	}
}

func TestShortDatagramIsNoFrame(t *testing.T) {
	if _, ok := parseFrame(make([]byte, frameLen-1)); ok {
		t.Error("a frame was read beyond its datagram")
	}
}

// transfer sends by c to a sink on the loopback interface.
func transfer(t *testing.T, c sendConfig) (Sent, Arrivals) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	at, result := make(chan net.Addr, 1), make(chan Arrivals, 1)
	go func() {
		a, err := receive(ctx, "127.0.0.1:0", c.run, func(a net.Addr) { at <- a })
		if err != nil {
			t.Error(err)
		}
		result <- a
	}()
	c.to = (<-at).String()
	s, err := send(c)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := send(sendConfig{to: c.to, run: c.run + 1, payload: 64, rate: 1000, length: 10 * time.Millisecond}); err != nil {
		t.Fatal(err)
	}
	stop()
	return s, <-result
}

func TestPacedSenderKeepsItsRateAndTheSinkItsRun(t *testing.T) {
	s, a := transfer(t, sendConfig{run: 7, payload: 1200, rate: 2000, length: 200 * time.Millisecond})
	if s.Packets != 400 || a.Packets != 400 || a.Bytes != 400*1200 || a.Inversions != 0 {
		t.Errorf("sent %d, got %d packets with %d bytes and %d inversions; want 400, 400, 480000, 0", s.Packets, a.Packets, a.Bytes, a.Inversions)
	}
	if s.Seconds < 0.199 {
		t.Errorf("was done after %v s, too early for its rate", s.Seconds)
	}
}

func TestSaturatingSenderSendsWholeBursts(t *testing.T) {
	s, a := transfer(t, sendConfig{run: 9, payload: 64, burst: 16, length: 50 * time.Millisecond})
	if s.Packets == 0 || (s.Packets+s.Refused)%16 != 0 {
		t.Errorf("sent %d and refused %d, which are no bursts of 16", s.Packets, s.Refused)
	}
	if a.Packets == 0 || a.Packets > s.Packets {
		t.Errorf("got %d of %d", a.Packets, s.Packets)
	}
}

func TestImpossibleSendsAreRefused(t *testing.T) {
	if _, err := send(sendConfig{to: "127.0.0.1:9", payload: frameLen - 1}); err == nil {
		t.Error("sent a payload that cannot hold its frame")
	}
	for _, burst := range []int{0, maxBurst + 1} {
		if _, err := send(sendConfig{to: "127.0.0.1:9", payload: 64, burst: burst}); err == nil {
			t.Errorf("sent bursts of %d", burst)
		}
	}
}

func TestMainLeavesOtherCommandsAlone(t *testing.T) {
	for _, args := range [][]string{nil, {"-rows", "tcp"}} {
		if _, mine := Main(args); mine {
			t.Errorf("took %q for its own", args)
		}
	}
	if code, mine := Main([]string{sendMode, "-no-such-flag"}); !mine || code != 2 {
		t.Errorf("code %d, mine %v for a bad flag; want 2, true", code, mine)
	}
}

func TestIperfResultIsTheReceivers(t *testing.T) {
	r, err := parseIperf([]byte(`{"end":{"sum_sent":{"bytes":9,"retransmits":3},"sum_received":{"bytes":1000,"seconds":2.5}}}`))
	if want := (TCPResult{Bytes: 1000, Seconds: 2.5, Retransmits: 3}); err != nil || r != want {
		t.Errorf("got %+v, %v; want %+v", r, err, want)
	}
	for in, want := range map[string]string{
		`{"error":"unable to connect"}`: "unable to connect",
		`{"end":{}}`:                    "nothing arrived",
		`oops`:                          "parse",
	} {
		if _, err := parseIperf([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", in, err, want)
		}
	}
}

func TestPingTimesAreRanked(t *testing.T) {
	out := "64 bytes from 10.92.0.2: icmp_seq=1 ttl=63 time=0.300 ms\n" +
		"64 bytes from 10.92.0.2: icmp_seq=2 ttl=63 time=0.100 ms\n" +
		"64 bytes from 10.92.0.2: icmp_seq=3 ttl=63 time=12.0 ms\n"
	r, err := parsePing([]byte(out))
	if want := (PingResult{P50: 300 * time.Microsecond, P99: 12 * time.Millisecond, Received: 3}); err != nil || r != want {
		t.Errorf("got %+v, %v; want %+v", r, err, want)
	}
	if _, err := parsePing([]byte("3 packets transmitted, 0 received")); err == nil {
		t.Error("no answers, and no error")
	}
}
