package netnstest

import (
	"testing"
	"time"
)

// TestSIGTERMEndsItUnderLoad floods both directions and ends one side. What stop looks at is the
// test: a second, no interface, no socket, no complaint.
func TestSIGTERMEndsItUnderLoad(t *testing.T) {
	ta, tb := pair(t)
	there := openFlows(ta.host, tb.host, tb.addr4(), 8, false)
	back := openFlows(tb.host, ta.host, ta.addr4(), 8, false)
	var stops []func()
	for _, f := range []*flows{there, back} {
		stops = append(stops, background(func() {
			for i := range f.out {
				f.write(i, 1200)
			}
		}))
	}
	await(t, 10*time.Second, "traffic both ways", func() bool {
		return there.received.Load() > 10000 && back.received.Load() > 10000
	})
	began := time.Now()
	counters := ta.stop()
	t.Logf("ended within %v, after %d packets there and %d back", time.Since(began), there.received.Load(), back.received.Load())
	if counters["InnerBytes"] == 0 {
		t.Errorf("counted %v, want the traffic among it", counters)
	}
	for _, stop := range stops {
		stop()
	}
	there.close()
	back.close()
}
