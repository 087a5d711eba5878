package fib

// Change is one step that control publishes. The set is closed: the types of this file.
type Change interface{ apply(*Table) }

// PutSession makes a session findable by its index.
type PutSession struct{ Session *Session }

// DelSession withdraws a session, wherever it is used.
type DelSession struct{ Session *Session }

// SetCurrent makes a session the one to send under. It withdraws the next session if that is the
// same, or if the session is of a handshake of ours: such a session is newer than any next one.
type SetCurrent struct{ Session *Session }

// SetNext makes a responder's session the one to send under as soon as the peer confirms it.
type SetNext struct{ Session *Session }

// SetPath says where a peer's packets go; nil for nowhere.
type SetPath struct {
	Peer *Peer
	Path *Path
}

// SetRoutes replaces the whole mapping from inner addresses to peers.
type SetRoutes struct{ Routes *Routes }

// SetMTU says how large an inner packet may be: message padding stays within it.
type SetMTU struct{ Bytes int }

// DelPeer withdraws a peer's path and sessions for sending. Its sessions are withdrawn by
// DelSession, its addresses by SetRoutes.
type DelPeer struct{ Peer *Peer }

// DropConnection gives a peer's connection id back, after its sessions were withdrawn.
type DropConnection struct{ ID uint32 }

func (c DropConnection) apply(t *Table) { t.FreeConnectionID(c.ID) }

func (c PutSession) apply(t *Table) { t.putSession(c.Session) }

func (c DelSession) apply(t *Table) {
	s := c.Session
	t.delSession(s)
	s.Peer.current.CompareAndSwap(s, nil)
	s.Peer.next.CompareAndSwap(s, nil)
}

func (c SetCurrent) apply(*Table) {
	p := c.Session.Peer
	p.current.Store(c.Session)
	if c.Session.Keys.Initiator() {
		p.next.Store(nil)
	} else {
		p.next.CompareAndSwap(c.Session, nil)
	}
	p.wanting.Store(false)
}

func (c SetNext) apply(*Table)     { c.Session.Peer.next.Store(c.Session) }
func (c SetPath) apply(*Table)     { c.Peer.path.Store(c.Path) }
func (c SetRoutes) apply(t *Table) { t.routes.Store(c.Routes) }
func (c SetMTU) apply(t *Table)    { t.mtu.Store(int64(c.Bytes)) }

func (c DelPeer) apply(*Table) {
	c.Peer.path.Store(nil)
	c.Peer.next.Store(nil)
	c.Peer.current.Store(nil)
}
