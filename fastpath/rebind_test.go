package fastpath

import (
	"errors"
	"testing"
	"time"

	"github.com/firelane/firelane/batch"
	"github.com/firelane/firelane/bufpool"
)

// longest notes how many segments the longest train has that goes out.
type longest struct {
	*fakeSocket
	segments int
}

func (l *longest) Send(trains []batch.Train) (int, error) {
	for i := range trains {
		l.segments = max(l.segments, trains[i].Len())
	}
	return l.fakeSocket.Send(trains)
}

// turns is a poller that says so often that everything is ready, and then stops the worker.
type turns struct {
	left int
	stop func()
}

func (p *turns) Wait(time.Duration) (uint64, error) {
	if p.left == 0 {
		p.stop()
		return 0, nil
	}
	p.left--
	return 1<<TagSocket4 | 1<<TagQueue, nil
}

func (p *turns) Sleep(time.Duration) bool { return false }

// A worker that runs on one pair of sockets after the other works with the present ones only, in
// trains as long as these take, goes on counting, and uses the slabs it had before.
func TestAWorkerRunsAgainOnOtherSockets(t *testing.T) {
	p := newPair(t, 1)
	r := newRig(p, 0, 0)
	f := flow{from: gateway, link: 0, payload: fill(120*200, 1)}
	r.queue.packets = []batch.Packet{f.asRead(200)}
	var used bufpool.Stats
	var carried uint64
	first := r.socket
	for round, segments := range []int{testSegments, 1, 100, 1} {
		out := &longest{fakeSocket: &fakeSocket{keys: first.keys, templates: first.templates, remote: first.remote}}
		r.Stop()
		r.Rebind(out, nil, &turns{left: 2, stop: r.Stop}, segments)
		if err := r.Run(); err != nil {
			t.Fatal(err)
		}
		if out.segments != segments || first.sent != 0 || r.poller.waits.Load() != 0 {
			t.Errorf("round %d: trains of up to %d segments, want %d; %d trains to the first socket", round, out.segments, segments, first.sent)
		}
		var s Snapshot
		r.AddTo(&s)
		if now := s.Figures[Segments]; now < carried+120 {
			t.Errorf("round %d: %d segments counted after %d", round, now, carried)
		} else {
			carried = now
		}
		now := p[gateway].pool.Stats()
		if round > 1 && now != used { // trains of one segment need the most slabs
			t.Errorf("round %d: %+v, before %+v", round, now, used)
		}
		used = now
	}
	r.Stop()
	r.Rebind(nil, nil, &fakePoller{err: errors.New("closed")}, 1)
	if r.Run() == nil {
		t.Error("run does not use the poller it was given")
	}
}
