package udp

import "errors"

// OpenPort binds one socket of one family to port, or to a free one when port is 0, on the
// options' address of that family. It works in x, together with any number of others; what it
// holds for itself is under half a KiB. o.Family is not looked at. A port that is taken, even by
// one that shares it, is an error that wraps EADDRINUSE.
func OpenPort(v6 bool, port uint16, o Options, caps Caps, x *Scratch) (*Socket, error) {
	s, err := newSocket(v6, o, caps, x)
	if err != nil {
		return nil, err
	}
	if err := s.bind(port, &o); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// Port returns the port the socket is bound to.
func (s *Socket) Port() uint16 { return s.port }

// Close closes a socket that OpenPort returned; those of a Group are closed by it. The loop that
// uses it must have let go of it.
func (s *Socket) Close() error { return s.close() }
