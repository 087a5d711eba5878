package poll

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func newCrowd(t testing.TB) *Crowd {
	t.Helper()
	s, err := NewCrowd()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestACrowdReportsEveryReadableTag(t *testing.T) {
	s := newCrowd(t)
	const many = 2*crowdEvents + 10
	var write, read [many]int
	for i := range many {
		read[i], write[i] = newPipe(t)
		if err := s.Add(read[i], i*1000); err != nil {
			t.Fatal(err)
		}
	}
	for i := range many {
		if _, err := unix.Write(write[i], []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[int32]bool{}
	tags := make([]int32, 0, crowdEvents)
	for range 3 { // the kernel takes turns among the ready
		var err error
		if tags, _, err = s.Wait(tags[:0], time.Second); err != nil {
			t.Fatal(err)
		}
		for _, tag := range tags {
			seen[tag] = true
		}
	}
	if len(seen) != many {
		t.Errorf("%d of %d tags seen", len(seen), many)
	}
	for i := range many - 1 {
		if err := s.Remove(read[i]); err != nil {
			t.Fatal(err)
		}
	}
	tags, bell, err := s.Wait(tags[:0], -1)
	if err != nil || bell || !slices.Equal(tags, []int32{(many - 1) * 1000}) {
		t.Errorf("%v, %v, %v after all others were removed", tags, bell, err)
	}
	if n := testing.AllocsPerRun(100, func() { tags, _, _ = s.Wait(tags[:0], 0) }); n != 0 {
		t.Errorf("%v allocations per wait", n)
	}
}

func TestABellWakesACrowd(t *testing.T) {
	s := newCrowd(t)
	done := make(chan bool)
	go func() {
		_, bell, err := s.Wait(nil, -1)
		done <- bell && err == nil
	}()
	s.Ring()
	if !<-done {
		t.Error("the bell did not come through")
	}
	s.Ring()
	if !s.Sleep(time.Hour) {
		t.Error("a ring before Sleep is lost")
	}
	if tags, bell, err := s.Wait(nil, 0); len(tags) != 0 || bell || err != nil {
		t.Errorf("%v, %v, %v with nothing ready", tags, bell, err)
	}
}

func TestACrowdRefusesTagsItCannotReport(t *testing.T) {
	s := newCrowd(t)
	r, _ := newPipe(t)
	for _, tag := range []int{-1, 1 << 31} {
		if err := s.Add(r, tag); err == nil {
			t.Errorf("tag %d was taken", tag)
		}
	}
	if err := s.Remove(r); err == nil {
		t.Error("a descriptor that is not in the set was removed")
	}
}
