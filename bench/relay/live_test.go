package main

import (
	"testing"
	"time"

	"github.com/firelane/firelane/bench/module"
	"github.com/firelane/firelane/bench/relay/traffic"
)

// Every relay carries trains and single datagrams both ways, unaltered, and serves a crowd; the
// figures say so.
func TestEveryRelayCarriesTheLoad(t *testing.T) {
	root, err := module.Root(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	}()
	rows := []Row{
		newRow(traffic.Plan{Up: true, Down: true, Lines: 3, Payload: largePayload, Train: 10, Rate: 2000}),
		newRow(traffic.Plan{Up: true, Down: true, Lines: 3, Payload: smallPayload, Train: 1, Rate: 2000}),
		{Name: "a crowd", Crowd: 20},
	}
	dir := t.TempDir()
	for _, c := range contenders {
		b, err := c.build(t.Context(), root, dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			m, err := s.measure(t.Context(), b, row, knobs{length: 200 * time.Millisecond, warmUp: 50 * time.Millisecond})
			if err != nil {
				t.Errorf("%s, %s: %v", c.name, row.Name, err)
				continue
			}
			t.Log(m.line())
			switch {
			case row.Crowd > 0 && m.Peak == 0:
				t.Errorf("%s: no memory measured", c.name)
			case row.Crowd > 0:
			case m.Up.Delivered == 0 || m.Down.Delivered == 0 || m.Up.Sent > 600 || m.Usage.CPU <= 0 || m.Peak == 0:
				t.Errorf("%s, %s: %+v", c.name, row.Name, m)
			}
		}
	}
}
