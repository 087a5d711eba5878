package topology

import "testing"

func TestServerIsReachedThroughPolicyAndTranslator(t *testing.T) {
	n := newNetwork(t, Config{MTU: 1280})
	client := Command{Name: "wireguard-go", Argv: []string{build(t, "golang.zx2c4.com/wireguard")}}
	policy, err := n.PolicyFile()
	if err != nil {
		t.Fatal(err)
	}
	gateway := Command{Name: "firelane", Argv: []string{build(t, "github.com/firelane/firelane/cmd/firelane"), "wg", "--policy", policy}}
	if err := n.StartTunnel(t.Context(), Gateway, gateway); err != nil {
		t.Fatal(err)
	}
	if err := n.StartTunnel(t.Context(), Client, client); err != nil {
		t.Fatal(err)
	}
	if err := n.Await(t.Context(), ServerLAN.V4.Addr()); err != nil {
		t.Fatal(err)
	}
	ping(t, n, Client, ServerLAN.V6.Addr().String())
	ping(t, n, Client, ProxyNAT4.String())
	ping(t, n, Client, ProxyNAT64.String())
	ping(t, n, Client, ProxyNAT46.String())

	for _, h := range []Host{Gateway, Client} {
		if err := n.StartTunnel(t.Context(), h, client); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.StartTranslator(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Await(t.Context(), Translated); err != nil {
		t.Fatal(err)
	}
}

func TestCaughtMessagesAreCountedAndGone(t *testing.T) {
	n := newNetwork(t, Config{MTU: 1280})
	wg := Command{Name: "wireguard-go", Argv: []string{build(t, "golang.zx2c4.com/wireguard")}}
	for _, h := range []Host{Gateway, Client} {
		if err := n.StartTunnel(t.Context(), h, wg); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.Await(t.Context(), ServerLAN.V4.Addr()); err != nil {
		t.Fatal(err)
	}
	stop, err := n.Catch(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const pings = 3
	if _, err := n.Run(t.Context(), Client, nil, "ping", "-n", "-q", "-c", "3", "-i", "0.01", "-W", "1", ServerLAN.V4.Addr().String()); err == nil {
		t.Error("an answer to what was caught")
	}
	// A ping of 84 bytes is padded to 96, and its header and tag are 32.
	if got, err := stop(t.Context(), 96+32); err != nil || got != pings {
		t.Errorf("%d messages were caught (%v), want %d", got, err, pings)
	}
	ping(t, n, Client, ServerLAN.V4.Addr().String())
}

func TestTrainsAreCountedByTheirBytes(t *testing.T) {
	const list = `{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"chain": {"name": "caught"}},
		{"rule": {"expr": [{"match": {"op": "=="}}, {"counter": {"packets": 3, "bytes": 1364}}, {"drop": null}]}}]}`
	// Trains of 4, 5 and 1 messages of 128 bytes.
	if got, err := countCaught([]byte(list), 28, 128); err != nil || got != 10 {
		t.Errorf("got %d, %v; want 10", got, err)
	}
	for _, bad := range []string{"", `{"nftables": []}`} {
		if _, err := countCaught([]byte(bad), 28, 128); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}
