package store

import (
	"fmt"
	"testing"
)

// connect connects a client of an owner.
func connect(t *testing.T, s *Store, account, owner string, i int) (Device, error) {
	t.Helper()
	d, _, err := s.ConnectDevice(t.Context(), DeviceNews{
		DeviceKey: DeviceKey{Account: account, Kind: Client, Owner: owner, ExternalID: fmt.Sprint(i)}, Name: "x",
	}, noon)
	return d, err
}

// No owner can take all devices that an account may have: people have less than service accounts, and
// others are not touched.
func TestDevicesOfAnOwnerAreBounded(t *testing.T) {
	s := open(t, Options{Limits: Limits{PersonDevices: 3, OwnerDevices: 5}})
	p := must(s.SignIn(t.Context(), Identity{Account: "acme", Issuer: "i", Subject: "s"}, noon))(t)
	for owner, limit := range map[string]int{p.ID: 3, "robot": 5} {
		var last Device
		for i := range limit {
			last = must(connect(t, s, "acme", owner, i))(t)
		}
		_, err := connect(t, s, "acme", owner, limit)
		wantErr(t, err, ErrFull)
		must(connect(t, s, "acme", owner, 0))(t) // it is known
		must(connect(t, s, "other", owner, limit))(t)
		_, _, err = s.DeleteDevice(t.Context(), "acme", last.ID)
		check(t, err)
		must(connect(t, s, "acme", owner, limit))(t)
		_, err = connect(t, s, "acme", owner, limit+1)
		wantErr(t, err, ErrFull)
	}
	must(connect(t, s, "acme", "another", 0))(t)
}

// Devices that were there before they were counted count.
func TestDevicesOfAnOwnerAreCountedByTheMigration(t *testing.T) {
	s := open(t, Options{Limits: Limits{OwnerDevices: 2}})
	must(connect(t, s, "acme", "robot", 0))(t)
	must(connect(t, s, "acme", "robot", 1))(t)
	for _, q := range []string{
		"DROP TRIGGER devices_owner_in", "DROP TRIGGER devices_owner_out", "DROP TABLE owners", "DROP INDEX tokens_subject",
		"PRAGMA user_version = 2",
	} {
		must(s.writes.Exec(q))(t)
	}
	check(t, migrate(t.Context(), s.writes))
	_, err := connect(t, s, "acme", "robot", 2)
	wantErr(t, err, ErrFull)
}

// The bounds by default are those that are documented.
func TestOwnersByDefault(t *testing.T) {
	l := Limits{}.orDefault()
	if l.PersonDevices != 256 || l.Sessions != 64 || l.OwnerDevices*8 != l.Devices {
		t.Errorf("%+v", l)
	}
}
