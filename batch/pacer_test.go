package batch

import "testing"

// Paced at packets that come quickly, the worker looks at intervals; a pause in the traffic, slow
// traffic and the off switch make it wait for the kernel.
func TestPacer(t *testing.T) {
	warm := func(longest int64) (*Pacer, int64) {
		p, now := &Pacer{Longest: longest}, int64(1<<40)
		for range briskRuns + 1 {
			now += briskGap / 2
			p.Woken(now)
		}
		return p, now
	}
	p, now := warm(200_000)
	if got := p.Rest(10, false, now, now+1000); got < shortestSleep || got > 200_000 {
		t.Errorf("brisk traffic sleeps %d ns", got)
	}
	if got := p.Rest(10, true, now, now+1000); got != 0 {
		t.Errorf("sleeps %d ns although more is waiting", got)
	}
	for range 100 {
		if got := p.Rest(fewPackets-1, false, now, now); got > 200_000 {
			t.Fatalf("sleeps %d ns, beyond the longest", got)
		}
	}
	long := p.Rest(fewPackets-1, false, now, now)
	for range 100 {
		p.Rest(manyPackets+1, false, now, now)
	}
	if got := p.Rest(fewPackets, false, now, now); got >= long || got < shortestSleep {
		t.Errorf("many packets sleep %d ns, few %d", got, long)
	}
	rests := 0
	for p.Rest(0, false, now, now) > 0 {
		if rests++; rests > patience {
			t.Fatal("sleeps for ever without packets")
		}
	}
	for name, p := range map[string]*Pacer{"off": func() *Pacer { p, _ := warm(0); return p }(), "fresh": {Longest: 200_000}} {
		if got := p.Rest(10, false, now, now); got != 0 {
			t.Errorf("%s: sleeps %d ns", name, got)
		}
	}
	p, now = warm(200_000)
	p.Woken(now + briskGap)
	if got := p.Rest(10, false, now, now); got != 0 {
		t.Errorf("slow traffic sleeps %d ns", got)
	}
}

// Whose packets come at 10,000 a second can be looked for at intervals too, if the first interval
// is long enough to bring some.
func TestAPacerForSlowerTraffic(t *testing.T) {
	p, now := &Pacer{Longest: 500_000, Brisk: 200_000, First: 400_000}, int64(1<<40)
	for range briskRuns + 1 {
		now += 100_000
		p.Woken(now)
	}
	for range 100 {
		sleep := p.Rest(4, false, now, now)
		if sleep < 400_000 || sleep > 500_000 {
			t.Fatalf("sleeps %d ns", sleep)
		}
		now += sleep
	}
	p = &Pacer{Longest: 500_000, Brisk: 200_000, First: 400_000}
	for range briskRuns + 1 {
		now += 200_000
		p.Woken(now)
	}
	if got := p.Rest(4, false, now, now); got != 0 {
		t.Errorf("slow traffic sleeps %d ns", got)
	}
}
