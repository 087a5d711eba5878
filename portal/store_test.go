package portal

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/firelane/firelane/portal/config"
	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// TestWritesOfARealStore: what the fake store of the other tests does, the real one does too.
func TestWritesOfARealStore(t *testing.T) {
	ctx := context.Background()
	s, err := store.Open(ctx, filepath.Join(t.TempDir(), "db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	token, _, err := s.CreateToken(ctx, store.TokenOrder{
		Account: account1, Kind: store.ServiceToken, Subject: actor1, Expires: start.Add(time.Hour),
	}, start)
	if err != nil {
		t.Fatal(err)
	}
	var rows [2]store.Device
	for i, d := range []store.Device{clientRow(), gatewayRow()} {
		if rows[i], _, err = s.ConnectDevice(ctx, store.DeviceNews{DeviceKey: d.DeviceKey, Name: d.Name, PublicKey: d.PublicKey}, start); err != nil {
			t.Fatal(err)
		}
	}
	p := New(Settings{Secret: key(7), Seed: key(9)}, State{
		File: parse(t, example), Devices: rows[:], Actors: map[string]config.Actor{actor1: {ServiceAccount: actor1}},
	}, start)
	turn := func() (out Output) {
		p.Drain(&out)
		for _, w := range out.Writes {
			p.HandleStored(w.ID, w.Do(ctx, s), start)
		}
		return out
	}
	stored := func() int {
		all, err := s.Authorizations(ctx, account1, store.AuthorizationFilter{}, start)
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	c := clientConnect(rows[0])
	c.TokenID, c.TokenExpires = token.ID, token.Expires
	p.HandleConnect(gatewayConn, gatewayConnect(rows[1]), start)
	p.HandleConnect(clientConn, c, start)
	p.HandleMessage(clientConn, signal.RequestAuthorization{ResourceID: uuid(resource1)}, start)
	turn()
	out := turn()
	if len(out.Deliveries) != 1 || stored() != 1 {
		t.Fatalf("%d rows, then %+v", stored(), out.Deliveries)
	}
	if _, ok := out.Deliveries[0].Message.(signal.CreateAuthorization); !ok {
		t.Errorf("gateway gets %T", out.Deliveries[0].Message)
	}
	gone, err := s.RevokeToken(ctx, account1, token.ID, start)
	if err != nil || len(gone) != 1 {
		t.Fatal(gone, err)
	}
	p.HandleTokenRevoked(token.ID, start)
	turn()
	if p.Stats().WritesFailed != 0 || !p.Settled() || stored() != 0 {
		t.Errorf("%+v", p.Stats())
	}
}
