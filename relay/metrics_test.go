package relay

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/firelane/firelane/internal/observe"
)

// Every counter of the relay is shown once, under a name that Prometheus accepts.
func TestMetricsShowEverything(t *testing.T) {
	enterNetns(t)
	r := start(t, nil)
	c, peer := newTurner(t, relayAt(loop6, r), "a"), newTurner(t, relayAt(loop4, r), "")
	c.allocate()
	c.bind(0x4000, peer.addr)
	exchange(t, c, peer, 0x4000)
	awaitCarried(t, r, 20, 20*1280)
	p, err := NewPortal(PortalConfig{API: "wss://portal", Stamp: NewStampSecret()})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	source := func() ([]observe.Metric, bool) { return append(r.Metrics(), p.Metrics()...), true }
	observe.Handler(source).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	body := w.Body.String()
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, body)
	}
	want := []string{
		"# TYPE relay_active_allocations gauge\nrelay_active_allocations 1\n", "relay_bound_channels 1\n", "\nrelay_allocations_made_total 1\n",
		`relay_responses_total{error_code="",message_type="channelbind",response_class="success"} 1` + "\n",
		`relay_carried_total{figure="ToPeers"} 20` + "\n", `relay_carried_total{figure="ToClientsBytes"} 25600` + "\n",
		`relay_packet_size_bytes_bucket{relay_datapath="userspace",le="1200"} 0` + "\n", `relay_packet_size_bytes_bucket{relay_datapath="userspace",le="1300"} 40` + "\n",
		`relay_packet_size_bytes_sum{relay_datapath="userspace"} 51200` + "\n", `relay_packet_size_bytes_count{relay_datapath="userspace"} 40` + "\n",
		`relay_listening_socket_total{counter="RecvOverflow"} 0` + "\n", `relay_kernel_udp_total{counter="UdpRcvbufErrors"} `,
		`relay_limit{limit="bindings_per_second"} `, `relay_portal_total{counter="Joins"} 0` + "\n", "relay_portal_joined 0\n",
	}
	for d := range numDrops {
		want = append(want, `relay_dropped_total{reason="`+d.String()+`"} `)
	}
	for _, e := range eventNames {
		want = append(want, "\n"+strings.ReplaceAll(e, ".", "_")+"_total ")
	}
	for _, line := range want {
		if strings.Count(body, line) != 1 {
			t.Errorf("%d times %q", strings.Count(body, line), line)
		}
	}
}

func TestSizesAreCountedByTheirBounds(t *testing.T) {
	for size, want := range map[int]int{0: 0, 1: 0, 100: 0, 101: 1, 200: 1, 1280: 12, 1500: 14, 1501: 15, 65507: 15} {
		if got := sizeBucket(size); got != want {
			t.Errorf("%d bytes: bucket %d, want %d", size, got, want)
		}
	}
	header, payload := make([]byte, 4), make([]byte, 300)
	for _, c := range []struct {
		name     string
		toClient bool
		sizes    []int
		want     map[int]uint64
	}{
		{"a train to a peer with a short last segment", false, []int{300, 300, 100}, map[int]uint64{2: 2, 0: 1}},
		{"a train to a client", true, []int{300, 300}, map[int]uint64{2: 2}},
		{"one datagram to a client", true, []int{100}, map[int]uint64{0: 1}},
		{"an empty datagram", false, []int{0}, map[int]uint64{0: 1}},
	} {
		g := &outgoing{toClient: c.toClient}
		g.PerSegment, g.Stride = 1, c.sizes[0]
		if c.toClient {
			g.PerSegment, g.Stride = 2, c.sizes[0]+len(header)
		}
		for _, n := range c.sizes {
			if c.toClient {
				g.Pieces, g.Size = append(g.Pieces, header), g.Size+len(header)
			}
			g.Pieces, g.Size = append(g.Pieces, payload[:n]), g.Size+n
		}
		var counts sizeCounts
		counts.count(g)
		for i := range counts {
			if got := counts[i].Load(); got != c.want[i] {
				t.Errorf("%s: %d in bucket %d, want %d", c.name, got, i, c.want[i])
			}
		}
	}
}
