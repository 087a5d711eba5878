package portal

import (
	"github.com/firelane/firelane/protocol/signal"
)

// What one input may have a device told piece by piece. Beyond it, init says what is left, which
// devices take at any time: it is shorter, and the queue of a device that reads must not fill up
// because of one edit.
const (
	// maxRejects is how many grants a gateway is told to end one by one.
	maxRejects = 64
	// maxPieces is how many bytes of resources and grants a client is told one by one: an eighth of
	// what internal/channel lets wait.
	maxPieces = 128 << 10
	// maxReturning is how many resources a client is made to let go of that it keeps, before such an
	// init: half of what may wait. The others stay, and the client asks again when a gateway refuses
	// what has been revoked there.
	maxReturning = 3072
	// maxUpdates is how many bytes of filters a device is told: half of what may wait.
	maxUpdates = 512 << 10
	// pieceBytes is what a message takes in a queue that names a resource and hardly more.
	pieceBytes = 200
)

// bounds are the first four, which a test may lower.
type bounds struct{ rejects, pieces, returning, updates int }

var usualBounds = bounds{maxRejects, maxPieces, maxReturning, maxUpdates}

// pieces are the deliveries of one device that its init stands for.
type pieces struct {
	rejects, bytes int
	// last is where the last of them is.
	last int
}

// condense gives devices an init in place of many messages of the last input.
func (p *Portal) condense() {
	first := p.condensed
	p.condensed = len(p.out.Deliveries)
	if len(p.out.Deliveries)-first == 0 {
		return
	}
	all := map[ConnID]*pieces{}
	for i, d := range p.out.Deliveries[first:] {
		cost := pieceCost(d.Message)
		if cost == 0 {
			continue
		}
		of := all[d.Conn]
		if of == nil {
			of = &pieces{}
			all[d.Conn] = of
		}
		of.bytes += cost
		of.last = first + i
		if _, ok := d.Message.(signal.RejectAccess); ok {
			of.rejects++
		}
	}
	if p.keepFew(all); len(all) > 0 {
		p.rewrite(all, first)
	}
}

// keepFew leaves the devices in all that are to get an init.
func (p *Portal) keepFew(all map[ConnID]*pieces) {
	for conn, of := range all {
		switch p.conns[conn].(type) {
		case *client:
			if of.bytes <= p.bounds.pieces {
				delete(all, conn)
			}
		case *gateway:
			if of.rejects <= p.bounds.rejects {
				delete(all, conn)
			}
		default: // it ends
			delete(all, conn)
		}
	}
}

// rewrite puts an init where the last of a device's pieces is, and takes the others out.
func (p *Portal) rewrite(all map[ConnID]*pieces, first int) {
	old := p.out.Deliveries[first:]
	fresh := make([]Delivery, 0, len(old))
	returning := map[ConnID]int{}
	for i, d := range old {
		of := all[d.Conn]
		if of == nil || pieceCost(d.Message) == 0 {
			fresh = append(fresh, d)
			continue
		}
		c, isClient := p.conns[d.Conn].(*client)
		if m, ok := d.Message.(signal.ResourceDeleted); ok && isClient && c.visible[m.ID] != nil && returning[d.Conn] < p.bounds.returning {
			returning[d.Conn]++
			fresh = append(fresh, d)
		}
		if first+i < of.last {
			continue
		}
		if isClient {
			fresh = append(fresh, Delivery{Conn: d.Conn, Message: p.clientInit(c)})
		} else if g, ok := p.conns[d.Conn].(*gateway); ok {
			fresh = append(fresh, Delivery{Conn: d.Conn, Message: p.gatewayInit(g)})
		}
	}
	p.out.Deliveries = append(p.out.Deliveries[:first], fresh...)
	p.condensed = len(p.out.Deliveries)
}

// pieceCost is about how many bytes a message takes in a queue that an init can stand for; zero for
// others.
func pieceCost(m signal.Message) int {
	switch m := m.(type) {
	case signal.ResourceChanged:
		return resourceCost(&m.ClientResource)
	case signal.ResourceDeleted, signal.RejectAccess, signal.ConfigChanged:
		return pieceBytes
	}
	return 0
}

// Bytes that a message about a resource takes without its texts and lists, and those of an element
// of each list.
const (
	resourceBytes = 350
	siteBytes     = 60
	filterBytes   = 75
	memberBytes   = 150
)

func resourceCost(r *signal.ClientResource) int {
	n := resourceBytes + len(r.Name) + len(r.Address) + len(r.AddressDescription) + filterBytes*len(r.Filters) + memberBytes*len(r.Devices)
	for _, s := range r.Sites {
		n += siteBytes + len(s.Name)
	}
	return n
}
