package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"time"
)

// DeviceKind says what a device is.
type DeviceKind uint8

// The kinds of devices.
const (
	Client  DeviceKind = 1
	Gateway DeviceKind = 2
)

// DeviceKey is what a device is recognised by when it connects.
type DeviceKey struct {
	Account string
	Kind    DeviceKind
	// Owner is the actor of a client and the site of a gateway.
	Owner string
	// ExternalID is what the device calls itself.
	ExternalID string
}

// DeviceNews is what a device tells when it connects.
type DeviceNews struct {
	DeviceKey
	// Name is used when the device is new.
	Name      string
	PublicKey [32]byte
	// Attributes are whatever else is worth showing: operating system, version, serial number.
	Attributes map[string]string
}

// Device is a client or a gateway that has connected at least once.
type Device struct {
	DeviceKey
	// ID never changes.
	ID         string
	Name       string
	PublicKey  [32]byte
	Attributes map[string]string
	// PSKBase is the device's share of pre-shared keys: secret.
	PSKBase [32]byte
	// IPv4 and IPv6 are its tunnel addresses, which nobody else in the account has. They never
	// change.
	IPv4, IPv6 netip.Addr
	// Verified is set by an administrator.
	Verified      bool
	Created, Seen time.Time
}

// maxAttributes bounds the attributes of a device; the protocol knows about ten.
const maxAttributes = 24

const deviceColumns = "account, id, kind, owner, external_id, name, public_key, psk_base, ipv4, ipv6, verified, attributes, created, seen"

// ConnectDevice finds the device that n comes from and notes its news, or makes it: with an id,
// addresses and a PSKBase of its own. ErrFull if the account or the owner has no room for it.
func (s *Store) ConnectDevice(ctx context.Context, n DeviceNews, now time.Time) (d Device, created bool, err error) {
	if err := n.check(); err != nil {
		return d, false, err
	}
	n.Attributes = maps.Clone(n.Attributes)
	d, err = write(ctx, s, func(t *tx) (Device, error) {
		d, err := deviceByKey(t, n.DeviceKey)
		if errors.Is(err, ErrNotFound) {
			created = true
			return s.newDevice(t, n, now)
		} else if err != nil {
			return d, err
		}
		d.PublicKey, d.Attributes, d.Seen = n.PublicKey, n.Attributes, at(ms(now))
		attributes, err := encode(d.Attributes)
		if err != nil {
			return d, err
		}
		return d, t.exec("UPDATE devices SET public_key = ?, attributes = ?, seen = ? WHERE account = ? AND id = ?",
			d.PublicKey[:], attributes, ms(now), d.Account, d.ID)
	})
	return d, created && err == nil, err
}

func (s *Store) newDevice(t *tx, n DeviceNews, now time.Time) (d Device, err error) {
	if err := first(t.room(n.Account, "devices", s.limits.Devices), s.ownerRoom(t, &n.DeviceKey)); err != nil {
		return d, err
	}
	d = Device{
		DeviceKey: n.DeviceKey, Name: n.Name, PublicKey: n.PublicKey, Attributes: n.Attributes,
		Created: at(ms(now)), Seen: at(ms(now)),
	}
	if d.ID, err = s.newID(); err != nil {
		return d, err
	}
	base, err := s.random(len(d.PSKBase))
	if err != nil {
		return d, err
	}
	copy(d.PSKBase[:], base)
	if d.IPv4, err = s.address(t, d.Account, "ipv4", s.pool4); err != nil {
		return d, err
	}
	if d.IPv6, err = s.address(t, d.Account, "ipv6", s.pool6); err != nil {
		return d, err
	}
	attributes, err := encode(d.Attributes)
	if err != nil {
		return d, err
	}
	return d, t.exec("INSERT INTO devices ("+deviceColumns+") VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
		d.Account, d.ID, d.Kind, d.Owner, d.ExternalID, d.Name, d.PublicKey[:], d.PSKBase[:],
		d.IPv4.String(), d.IPv6.String(), d.Verified, attributes, ms(d.Created), ms(d.Seen))
}

// ownerRoom returns ErrFull unless the owner of k may have one more device.
func (s *Store) ownerRoom(t *tx, k *DeviceKey) error {
	var n int64
	var person bool
	err := t.row(`SELECT coalesce((SELECT n FROM owners WHERE account = ?1 AND kind = ?2 AND owner = ?3), 0),
		EXISTS (SELECT 1 FROM people WHERE account = ?1 AND id = ?3)`, k.Account, k.Kind, k.Owner).Scan(&n, &person)
	limit := s.limits.OwnerDevices
	if person {
		limit = s.limits.PersonDevices
	}
	if err == nil && n >= limit {
		err = fmt.Errorf("%w: %d devices of one owner", ErrFull, n)
	}
	return err
}

func deviceByKey(t *tx, k DeviceKey) (Device, error) {
	all, err := collect(t, "SELECT "+deviceColumns+" FROM devices WHERE account = ? AND kind = ? AND owner = ? AND external_id = ?",
		scanDevice, k.Account, k.Kind, k.Owner, k.ExternalID)
	if err == nil && len(all) == 0 {
		err = ErrNotFound
	}
	if err != nil {
		return Device{}, err
	}
	return all[0], nil
}

// Device returns one device, by id.
func (s *Store) Device(ctx context.Context, account, id string) (Device, error) {
	return readOne(ctx, s, "SELECT "+deviceColumns+" FROM devices WHERE account = ? AND id = ?", scanDevice, account, id)
}

// DeviceByAddress returns the device that has a tunnel address, of either family.
func (s *Store) DeviceByAddress(ctx context.Context, account string, a netip.Addr) (Device, error) {
	column := "ipv6"
	if a = a.Unmap(); a.Is4() {
		column = "ipv4"
	}
	return readOne(ctx, s, "SELECT "+deviceColumns+" FROM devices WHERE account = ? AND "+column+" = ?",
		scanDevice, account, a.String())
}

// DeviceFilter picks devices; empty fields pick all.
type DeviceFilter struct {
	Kind  DeviceKind
	Owner string
	// After and Limit are for going through many: devices come in the order of their ids, after
	// this one, and MaxPage at most.
	After string
	Limit int
}

// Devices returns the devices of an account that f picks.
func (s *Store) Devices(ctx context.Context, account string, f DeviceFilter) ([]Device, error) {
	return read(ctx, s, "SELECT "+deviceColumns+` FROM devices WHERE account = ?1 AND id > ?2
		AND (?3 = 0 OR kind = ?3) AND (?4 = '' OR owner = ?4) ORDER BY id LIMIT ?5`,
		scanDevice, account, f.After, f.Kind, f.Owner, clamp(f.Limit))
}

// SetVerified notes whether an administrator has verified a device.
func (s *Store) SetVerified(ctx context.Context, account, id string, verified bool) error {
	return s.changeOne(ctx, "UPDATE devices SET verified = ? WHERE account = ? AND id = ?", verified, account, id)
}

// RenameDevice gives a device another name.
func (s *Store) RenameDevice(ctx context.Context, account, id, name string) error {
	if err := short("name", name, maxText); err != nil {
		return err
	}
	return s.changeOne(ctx, "UPDATE devices SET name = ? WHERE account = ? AND id = ?", name, account, id)
}

// SeeDevices notes that devices were connected at now: one write for many. Unknown ones are ignored.
func (s *Store) SeeDevices(ctx context.Context, account string, ids []string, now time.Time) error {
	if len(ids) > MaxPage {
		return fmt.Errorf("%w: %d devices at once, %d are allowed", ErrInvalid, len(ids), MaxPage)
	}
	list, err := encode(ids)
	if err != nil {
		return err
	}
	_, err = write(ctx, s, func(t *tx) (struct{}, error) {
		return struct{}{}, t.exec("UPDATE devices SET seen = max(seen, ?) WHERE account = ? AND id IN (SELECT value FROM json_each(?))",
			ms(now), account, list)
	})
	return err
}

// DeleteDevice removes a device, its authorizations with it, and returns both. Its id and addresses
// are free again: if it connects once more it is another device.
func (s *Store) DeleteDevice(ctx context.Context, account, id string) (Device, []Authorization, error) {
	var gone []Authorization
	d, err := write(ctx, s, func(t *tx) (d Device, err error) {
		gone, err = collect(t, "SELECT "+authorizationColumns+" FROM authorizations WHERE account = ?1 AND (client = ?2 OR gateway = ?2)",
			scanAuthorization, account, id)
		if err != nil {
			return d, err
		}
		found, err := collect(t, "DELETE FROM devices WHERE account = ? AND id = ? RETURNING "+deviceColumns, scanDevice, account, id)
		if err == nil && len(found) == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return d, err
		}
		return found[0], nil
	})
	if err != nil {
		return d, nil, err
	}
	return d, gone, nil
}

// changeOne carries out a statement that must change one row.
func (s *Store) changeOne(ctx context.Context, query string, args ...any) error {
	_, err := write(ctx, s, func(t *tx) (struct{}, error) {
		n, err := t.change(query, args...)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return struct{}{}, err
	})
	return err
}

func (n *DeviceNews) check() error {
	if n.Kind != Client && n.Kind != Gateway {
		return fmt.Errorf("%w: device kind %d", ErrInvalid, n.Kind)
	}
	if n.ExternalID == "" {
		return fmt.Errorf("%w: external id is empty", ErrInvalid)
	}
	if len(n.Attributes) > maxAttributes {
		return fmt.Errorf("%w: %d attributes, %d are allowed", ErrInvalid, len(n.Attributes), maxAttributes)
	}
	for k, v := range n.Attributes {
		if err := first(short("attribute name", k, maxText), short("attribute "+k, v, maxText)); err != nil {
			return err
		}
	}
	return first(id("account", n.Account), id("owner", n.Owner), short("external id", n.ExternalID, maxText), short("name", n.Name, maxText))
}

func scanDevice(r *sql.Rows) (d Device, err error) {
	var key, base []byte
	var v4, v6, attributes string
	var created, seen int64
	if err := r.Scan(&d.Account, &d.ID, &d.Kind, &d.Owner, &d.ExternalID, &d.Name, &key, &base, &v4, &v6,
		&d.Verified, &attributes, &created, &seen); err != nil {
		return d, err
	}
	copy(d.PublicKey[:], key)
	copy(d.PSKBase[:], base)
	d.Created, d.Seen = at(created), at(seen)
	if d.IPv4, d.IPv6, err = parseAddrs(v4, v6); err != nil {
		return d, err
	}
	return d, decode(attributes, &d.Attributes)
}
