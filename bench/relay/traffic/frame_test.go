package traffic

import (
	"testing"

	"pgregory.net/rapid"
)

func TestAFrameIsReadAsItWasPut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pattern := newPattern(rapid.IntRange(MinPayload, 1400).Draw(t, "payload"))
		want := frame{
			run: rapid.Uint32().Draw(t, "run"), line: rapid.Uint16().Draw(t, "line"),
			dir: Direction(rapid.IntRange(0, 1).Draw(t, "direction")), seq: rapid.Uint64().Draw(t, "seq"),
		}
		b := append([]byte(nil), pattern...)
		want.put(b)
		if got, ok := parseFrame(b, pattern); !ok || got != want {
			t.Fatalf("got %+v, %v; want %+v", got, ok, want)
		}
		if at := rapid.IntRange(MinPayload, len(b)).Draw(t, "at"); at < len(b) {
			b[at] ^= 1
			if _, ok := parseFrame(b, pattern); ok {
				t.Fatalf("a change at byte %d is not noticed", at)
			}
		}
		if _, ok := parseFrame(b[:len(b)-1], pattern); ok {
			t.Fatal("a payload that is cut short is not noticed")
		}
	})
}

// A sink tells apart what is whole, of another run, late, altered and on another channel.
func TestASinkJudgesEachDatagram(t *testing.T) {
	const payload = 100
	l := &line{number: firstChannel}
	k := &sink{dir: Down, run: 2, lines: []*line{l}, pattern: newPattern(payload)}
	datagram := func(f frame, number uint16) []byte {
		b := append(make([]byte, headerLen), newPattern(payload)...)
		b[0], b[1], b[3] = byte(number>>8), byte(number), payload
		f.put(b[headerLen:])
		return b
	}
	for _, seq := range []uint64{0, 1, 3, 2, 3} {
		k.take(l, datagram(frame{run: 2, dir: Down, seq: seq}, firstChannel))
	}
	k.take(l, datagram(frame{run: 1, dir: Down, seq: 9}, firstChannel))
	k.take(l, datagram(frame{run: 2, dir: Up, seq: 9}, firstChannel))
	k.take(l, datagram(frame{run: 2, line: 1, dir: Down, seq: 9}, firstChannel))
	k.take(l, datagram(frame{run: 2, dir: Down, seq: 9}, firstChannel+1))
	altered := datagram(frame{run: 2, dir: Down, seq: 9}, firstChannel)
	altered[len(altered)-1]++
	k.take(l, altered)
	if want := (Flow{Delivered: 5, Late: 2, Corrupt: 4}); k.flow != want {
		t.Errorf("got %+v, want %+v", k.flow, want)
	}
}

func TestPlansThatCannotBeSentAreRefused(t *testing.T) {
	good := Plan{Up: true, Lines: 2, Payload: 1280, Train: 50, Rate: 1, Length: 1}
	if err := good.check(2); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Plan){
		"more lines than there are": func(p *Plan) { p.Lines = 3 },
		"no line":                   func(p *Plan) { p.Lines = 0 },
		"no room for a frame":       func(p *Plan) { p.Payload = MinPayload - 1 },
		"a train beyond 64 KiB":     func(p *Plan) { p.Train = 52 },
		"too many in a train":       func(p *Plan) { p.Train, p.Payload = 64, 100 },
		"a negative rate":           func(p *Plan) { p.Rate = -1 },
		"no time":                   func(p *Plan) { p.Length = 0 },
	} {
		p := good
		change(&p)
		if p.check(2) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
