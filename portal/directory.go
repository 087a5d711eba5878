package portal

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/firelane/firelane/portal/store"
	"github.com/firelane/firelane/protocol/signal"
)

// device is what the machine remembers of a client or gateway, connected or not.
type device struct {
	id       signal.ID
	account  string
	kind     store.DeviceKind
	owner    string
	name     string
	key      signal.PublicKey
	ipv4     netip.Addr
	ipv6     netip.Addr
	verified bool
}

// directory holds all devices. The store bounds how many there are.
type directory struct {
	byID map[signal.ID]*device
	// Clients only, for device pools. Names need not be unique; the ids are in order.
	byAddr map[addrKey]*device
	byName map[nameKey][]signal.ID
}

type addrKey struct {
	account string
	addr    netip.Addr
}

type nameKey struct{ account, name string }

func newDirectory() directory {
	return directory{map[signal.ID]*device{}, map[addrKey]*device{}, map[nameKey][]signal.ID{}}
}

// put takes over what the store knows about a device. It reports false for a row whose id is no
// UUID or belongs to another account's device.
func (d *directory) put(row *store.Device) (now, before *device, ok bool) {
	id, err := signal.ParseID(row.ID)
	if err != nil {
		return nil, nil, false
	}
	before = d.byID[id]
	if before != nil && before.account != row.Account {
		return nil, nil, false
	}
	d.remove(before)
	now = &device{
		id, row.Account, row.Kind, row.Owner, row.Name, row.PublicKey, row.IPv4, row.IPv6, row.Verified,
	}
	d.byID[id] = now
	if now.kind == store.Client {
		d.byAddr[addrKey{now.account, now.ipv4}] = now
		d.byAddr[addrKey{now.account, now.ipv6}] = now
		k := now.nameKey()
		at, _ := slices.BinarySearchFunc(d.byName[k], id, signal.ID.Compare)
		d.byName[k] = slices.Insert(d.byName[k], at, id)
	}
	return now, before, true
}

func (d *directory) remove(old *device) {
	if old == nil {
		return
	}
	delete(d.byID, old.id)
	if old.kind != store.Client {
		return
	}
	delete(d.byAddr, addrKey{old.account, old.ipv4})
	delete(d.byAddr, addrKey{old.account, old.ipv6})
	k := old.nameKey()
	d.byName[k] = slices.DeleteFunc(d.byName[k], func(id signal.ID) bool { return id == old.id })
	if len(d.byName[k]) == 0 {
		delete(d.byName, k)
	}
}

// named returns the device of an account with this host name, the first of several, or nil.
func (d *directory) named(account, name string) *device {
	if ids := d.byName[nameKey{account, hostname(name)}]; len(ids) > 0 {
		return d.byID[ids[0]]
	}
	return nil
}

func (d *device) nameKey() nameKey { return nameKey{d.account, hostname(d.name)} }

// hostname is the form in which names are compared.
func hostname(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }
