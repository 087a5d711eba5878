package fib

// endpoints knows which outside ports a client's flows use, for each protocol and real address.
// Without it a client that uses many ports towards one address through two proxy addresses could
// make every new flow try 65,535 tuples, 3 ms under the lock; here a step is one port of a sorted
// list or 64 of a bitmap. Cost: 64 bytes for each real address, 2 to 4 for each port beyond 18.
type endpoints struct {
	all  chunked[endpoint] // densely numbered from 1
	find index
	sets []*portSet // of endpoints with more than inlinePorts, densely
}

// inlinePorts fills an endpoint up to 64 bytes.
const inlinePorts = 18

type endpoint struct {
	addr  flowAddr
	tuple uint32 // protocol and family; port 0
	n     uint32 // ports in ports
	set   uint32 // 1 + number of the set that holds the ports instead, or 0
	ports [inlinePorts]uint16
}

func (e *endpoints) init() {
	e.all.push()
	e.find.init()
}

func (e *endpoints) lookup(a flowAddr, tuple, hash uint32) (uint32, *endpoint) {
	for id := e.find.first(hash); id != 0; id = e.find.next(id) {
		if p := e.all.at(id); p.tuple == tuple && p.addr == a {
			return id, p
		}
	}
	return 0, nil
}

// nextFree returns the first of port, port+1 … 65535, 1 … port-1 that is not in use.
func (e *endpoints) nextFree(a flowAddr, tuple uint32, port uint16, key hashKey) (uint16, bool) {
	tuple &^= tuplePort
	_, p := e.lookup(a, tuple, key.hash(a, tuple))
	switch {
	case p == nil:
		return port, true
	case p.set != 0:
		return e.sets[p.set-1].nextFree(port)
	}
	return p.nextFree(port), true
}

// add marks the port of a tuple, which is free, as in use.
func (e *endpoints) add(a flowAddr, tuple uint32, key hashKey) {
	port := uint16(tuple)
	tuple &^= tuplePort
	hash := key.hash(a, tuple)
	id, p := e.lookup(a, tuple, hash)
	if id == 0 {
		id = uint32(e.all.n)
		e.all.push()
		e.find.links.push()
		e.find.insert(id, hash)
		p = e.all.at(id)
		p.addr, p.tuple = a, tuple
	}
	if p.set == 0 && p.n == inlinePorts {
		e.sets = append(e.sets, newPortSet(id, p.ports[:]))
		p.set = uint32(len(e.sets))
	}
	if p.set != 0 {
		e.sets[p.set-1].add(port)
		return
	}
	p.ports[p.n] = port
	p.n++
}

// remove marks the port of a tuple, which is in use, as free.
func (e *endpoints) remove(a flowAddr, tuple uint32, key hashKey) {
	port := uint16(tuple)
	tuple &^= tuplePort
	id, p := e.lookup(a, tuple, key.hash(a, tuple))
	if p.set != 0 {
		if s := e.sets[p.set-1]; s.remove(port) <= inlinePorts/2 {
			p.n = uint32(copy(p.ports[:], s.sorted))
			e.dropSet(p)
		}
		return
	}
	p.n--
	for i := range p.ports {
		if p.ports[i] == port {
			p.ports[i] = p.ports[p.n]
			break
		}
	}
	if p.n == 0 {
		e.drop(id)
	}
}

func (e *endpoints) dropSet(p *endpoint) {
	last := len(e.sets) - 1
	moved := e.sets[last]
	e.sets[p.set-1] = moved
	e.all.at(moved.owner).set = p.set
	p.set = 0
	e.sets[last] = nil
	e.sets = e.sets[:last]
	if last == 0 {
		e.sets = nil
	}
}

func (e *endpoints) drop(id uint32) {
	e.find.remove(id)
	if last := uint32(e.all.n - 1); last != id {
		p := e.all.at(id)
		*p = *e.all.at(last)
		e.find.renumber(last, id)
		if p.set != 0 {
			e.sets[p.set-1].owner = id
		}
	}
	e.all.pop()
	e.find.links.pop()
}

// nextFree is as that of endpoints; fewer ports are in use than there are.
func (p *endpoint) nextFree(port uint16) uint16 {
	for p.uses(port) {
		port++
		if port == 0 {
			port = 1
		}
	}
	return port
}

func (p *endpoint) uses(port uint16) bool {
	for _, used := range p.ports[:p.n] {
		if used == port {
			return true
		}
	}
	return false
}
