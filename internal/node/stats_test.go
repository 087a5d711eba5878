package node

import (
	"strings"
	"testing"

	"github.com/firelane/firelane/internal/tun"
	"github.com/firelane/firelane/internal/udp"
)

func TestSumAddsEveryField(t *testing.T) {
	total := udp.Stats{RecvTrains: 1, SendOther: 2}
	sum(&total, udp.Stats{RecvTrains: 10, SendOther: 20, GSODisabled: 1})
	if want := (udp.Stats{RecvTrains: 11, SendOther: 22, GSODisabled: 1}); total != want {
		t.Errorf("got %+v, want %+v", total, want)
	}
}

func TestFieldsNameEveryCounter(t *testing.T) {
	var m metrics
	m.fields("x_total", "X.", tun.Stats{WriteBlocked: 7})
	var names []string
	for _, c := range m {
		names = append(names, c.LabelValue)
		if want := map[bool]uint64{true: 7}[c.LabelValue == "WriteBlocked"]; c.Value != want {
			t.Errorf("%s is %d, want %d", c.LabelValue, c.Value, want)
		}
	}
	const want = "ReadPackets ReadBytes ReadMalformed WrittenPackets WrittenBytes WriteInvalid WriteRefused WriteDown WriteNoMemory WriteOther WriteBlocked"
	if got := strings.Join(names, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
