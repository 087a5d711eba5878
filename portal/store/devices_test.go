package store

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestDeviceIsRecognised(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	key := DeviceKey{Account: "acme", Kind: Client, Owner: "actor", ExternalID: "x"}
	d, created, err := s.ConnectDevice(ctx, DeviceNews{DeviceKey: key, Name: "laptop", PublicKey: [32]byte{1}}, noon)
	if check(t, err); !created || d.ID == "" || d.PSKBase == [32]byte{} {
		t.Fatalf("created %v: %+v", created, d)
	}
	s = reopen(t, s, Options{})
	later := noon.Add(time.Hour)
	again, created, err := s.ConnectDevice(ctx, DeviceNews{
		DeviceKey: key, Name: "ignored", PublicKey: [32]byte{2}, Attributes: map[string]string{"os": "Debian"},
	}, later)
	if check(t, err); created {
		t.Error("made twice")
	}
	want := d
	want.PublicKey, want.Attributes, want.Seen = [32]byte{2}, map[string]string{"os": "Debian"}, later
	if fmt.Sprint(again) != fmt.Sprint(want) {
		t.Errorf("device is\n%+v, want\n%+v", again, want)
	}
	if got := must(s.Device(ctx, "acme", d.ID))(t); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read back:\n%+v, want\n%+v", got, want)
	}
	for _, other := range []DeviceKey{
		{"acme", Gateway, "actor", "x"}, {"acme", Client, "another", "x"}, {"acme", Client, "actor", "y"}, {"other", Client, "actor", "x"},
	} {
		o, created, err := s.ConnectDevice(ctx, DeviceNews{DeviceKey: other}, noon)
		if check(t, err); !created || o.ID == d.ID {
			t.Errorf("%+v is taken for %+v", other, key)
		}
	}
}

func TestDevicesAreListedChangedAndDeleted(t *testing.T) {
	s := open(t, Options{})
	ctx := t.Context()
	g := device(t, s, "acme", Gateway, "g")
	var clients []Device
	for i := range 5 {
		clients = append(clients, device(t, s, "acme", Client, fmt.Sprint(i)))
	}
	var seen []string
	for after := ""; ; {
		page := must(s.Devices(ctx, "acme", DeviceFilter{Kind: Client, After: after, Limit: 2}))(t)
		if len(page) == 0 {
			break
		}
		for _, d := range page {
			seen = append(seen, d.ID)
		}
		after = seen[len(seen)-1]
	}
	if len(seen) != 5 || !strings.Contains(strings.Join(seen, " "), clients[3].ID) {
		t.Errorf("paging finds %v", seen)
	}
	c := clients[0]
	check(t, s.SetVerified(ctx, "acme", c.ID, true))
	check(t, s.RenameDevice(ctx, "acme", c.ID, "renamed"))
	check(t, s.SeeDevices(ctx, "acme", []string{c.ID, "unknown"}, noon.Add(time.Minute)))
	check(t, s.SeeDevices(ctx, "acme", []string{c.ID}, noon.Add(-time.Minute)))
	got := must(s.DeviceByAddress(ctx, "acme", c.IPv6))(t)
	if !got.Verified || got.Name != "renamed" || !got.Seen.Equal(noon.Add(time.Minute)) {
		t.Errorf("changed device is %+v", got)
	}
	if four := must(s.DeviceByAddress(ctx, "acme", netip.AddrFrom16(c.IPv4.As16())))(t); four.ID != c.ID {
		t.Errorf("by mapped address: %+v", four)
	}
	check(t, s.PutAuthorization(ctx, authorization(c, g, "one")))
	check(t, s.PutAuthorization(ctx, authorization(clients[1], g, "two")))
	gone, revoked, err := s.DeleteDevice(ctx, "acme", c.ID)
	if check(t, err); gone.ID != c.ID || len(revoked) != 1 || revoked[0].ID != "one" {
		t.Errorf("deleted %+v with %+v", gone, revoked)
	}
	if left := must(s.Authorizations(ctx, "acme", AuthorizationFilter{}, noon))(t); len(left) != 1 || left[0].ID != "two" {
		t.Errorf("authorizations left: %+v", left)
	}
	if n := must(s.Counts(ctx, "acme"))(t); n.Devices != 5 || n.Authorizations != 1 {
		t.Errorf("counts %+v", n)
	}
}

func TestAddressesAreUniqueAndRunOut(t *testing.T) {
	s := open(t, Options{IPv4: netip.MustParsePrefix("10.0.0.0/28"), IPv6: netip.MustParsePrefix("fd00::/124")})
	used := map[netip.Addr]bool{}
	for i := range 14 {
		d := device(t, s, "acme", Client, fmt.Sprint(i))
		for _, a := range []netip.Addr{d.IPv4, d.IPv6} {
			if used[a] {
				t.Errorf("%v is given out twice", a)
			}
			used[a] = true
		}
	}
	for _, never := range []string{"10.0.0.0", "10.0.0.15", "fd00::", "fd00::f"} {
		if used[netip.MustParseAddr(never)] {
			t.Errorf("%s is given out", never)
		}
	}
	_, _, err := s.ConnectDevice(t.Context(), DeviceNews{DeviceKey: DeviceKey{"acme", Client, "o", "15"}}, noon)
	wantErr(t, err, ErrFull)
	device(t, s, "other", Client, "15") // another account has addresses of its own
	d := must(s.Devices(t.Context(), "acme", DeviceFilter{Limit: 1}))(t)[0]
	_, _, err = s.DeleteDevice(t.Context(), "acme", d.ID)
	check(t, err)
	if fresh := device(t, s, "acme", Client, "15"); fresh.IPv4 != d.IPv4 || fresh.ID == d.ID {
		t.Errorf("the last free address is %v, got %v", d.IPv4, fresh.IPv4)
	}
}

func TestDefaultRangesAreThoseOfTheProtocol(t *testing.T) {
	s := open(t, Options{})
	d := device(t, s, "acme", Client, "x")
	if !netip.MustParsePrefix("100.64.0.0/11").Contains(d.IPv4) || !netip.MustParsePrefix("fd00:2021:1111::/107").Contains(d.IPv6) {
		t.Errorf("addresses %v, %v", d.IPv4, d.IPv6)
	}
}

func TestHostsOfAPoolAreInsideAndDistinct(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pool := rapid.SampledFrom([]string{"100.64.0.0/11", "fd00:2021:1111::/107", "10.0.0.8/30", "fd00::/125"}).Draw(t, "pool")
		p := netip.MustParsePrefix(pool)
		n := hosts(p)
		i, j := rapid.Uint64Range(1, n).Draw(t, "i"), rapid.Uint64Range(1, n).Draw(t, "j")
		a, b := host(p, i), host(p, j)
		if !p.Contains(a) || (a == b) != (i == j) || a == p.Addr() || !p.Contains(a.Next()) {
			t.Fatalf("host %d of %v is %v, host %d is %v", i, p, a, j, b)
		}
	})
}

func TestDeviceBounds(t *testing.T) {
	s := open(t, Options{Limits: Limits{Devices: 1}})
	good := DeviceNews{DeviceKey: DeviceKey{"acme", Client, "o", "x"}}
	for name, spoil := range map[string]func(*DeviceNews){
		"no account":      func(n *DeviceNews) { n.Account = "" },
		"no owner":        func(n *DeviceNews) { n.Owner = "" },
		"no external id":  func(n *DeviceNews) { n.ExternalID = "" },
		"long id":         func(n *DeviceNews) { n.ExternalID = strings.Repeat("x", 256) },
		"kind":            func(n *DeviceNews) { n.Kind = 7 },
		"not UTF-8":       func(n *DeviceNews) { n.Name = "\xff" },
		"long attribute":  func(n *DeviceNews) { n.Attributes = map[string]string{"a": strings.Repeat("x", 256)} },
		"many attributes": func(n *DeviceNews) { n.Attributes = many(maxAttributes + 1) },
	} {
		bad := good
		spoil(&bad)
		if _, _, err := s.ConnectDevice(t.Context(), bad, noon); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	device(t, s, "acme", Client, "first")
	_, _, err := s.ConnectDevice(t.Context(), good, noon)
	wantErr(t, err, ErrFull)
	wantErr(t, s.SeeDevices(t.Context(), "acme", make([]string, MaxPage+1), noon), ErrInvalid)
}

func many(n int) map[string]string {
	m := map[string]string{}
	for i := range n {
		m[fmt.Sprint(i)] = "x"
	}
	return m
}
