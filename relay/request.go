package relay

import (
	"github.com/firelane/firelane/protocol/stun"
)

// request is one request on its way through the server.
type request struct {
	m    stun.Message
	from Tuple
	key  tupleKey
	at   int64 // nanoseconds since the server's start

	// user is valid once authenticate has looked at the user name.
	user identity
	// challenge: the refusal carries realm and nonce.
	challenge bool
	// returned: the request has a nonce that was sent to its address, so that is not forged.
	returned bool
	// checked: the credentials are good.
	checked bool
	// silent: the credentials were not looked at, and there is no answer.
	silent bool
}

// complete reports whether a request has what its method cannot do without, and is of a method
// that we know. It is asked before any credentials.
func complete(m *stun.Message) bool {
	switch m.Method {
	case stun.Allocate:
		return m.Has&stun.HasTransport != 0
	case stun.ChannelBind:
		return m.Has&stun.HasChannelNumber != 0 && m.Has&stun.HasPeer != 0
	case stun.Refresh, stun.CreatePermission:
		return true
	}
	return false
}

// authenticate checks the credentials and returns 0, or the code to refuse the request with. A
// use of the nonce is consumed before the signature is looked at.
func (s *Server) authenticate(r *request) (code int) {
	m := &r.m
	if m.Has&stun.HasUsername != 0 {
		r.user = s.cfg.Credentials.identify(m.Username, s.now.Unix())
	}
	r.challenge = true
	switch {
	case m.Has&stun.HasMessageIntegrity == 0, m.Has&stun.HasUsername == 0,
		m.Has&stun.HasNonce == 0, !isUUID(m.Nonce):
		return 401
	}
	nonce := s.nonces.use(r.from.Remote, m.Nonce)
	r.returned = nonce != nonceUnknown
	switch {
	case nonce != nonceGood:
		return 438
	case s.guesses(r):
		r.silent = true
		return 401
	case !m.Verify(r.user.key[:]), !r.user.valid:
		return 401
	}
	r.challenge, r.checked = false, true
	return 0
}

// guesses reports whether a request comes from a source that has had as many wrong passwords as it
// may, where passwords can be guessed: then the right one would be as silent as the others, since to
// leave wrong ones unanswered tells the right one from them. A client that has an allocation goes on
// with the user name that it has it for, whatever its neighbours try.
func (s *Server) guesses(r *request) bool {
	if r.user.signs || !s.wrong.Spent(r.from.Remote.Addr(), r.at) {
		return false
	}
	l := s.clients[r.key]
	return l == nil || l.user != string(r.m.Username)
}

// mayRefuse reports whether a refusal lies within what the source may have.
func (s *Server) mayRefuse(r *request, code int) bool {
	switch {
	case r.checked:
		return true
	case r.silent:
		return false
	case !r.returned:
		return s.refusals.Allow(r.from.Remote.Addr(), r.at)
	case code == 401:
		return s.wrong.Allow(r.from.Remote.Addr(), r.at)
	}
	return true
}

// refuse answers with an error: unsigned if it comes before the user name was looked at, signed
// if the user name has a key that may sign and the request was signed. Refusals of requests that anybody could have sent under
// this address are bounded for each source; who returns a nonce has been there to receive it, and
// is not to suffer from those who have not. That holds for a nonce that is used up, too: a client
// behind a busy NAT gets its next one whatever its neighbours do. It does not hold where nothing is
// known of the client: with its first request, after a restart of the relay, and after as many
// others as Limits.Nonces have been heard of. It then shares RefusalsPerSecond with its
// neighbours, and asks again. Wrong credentials under a good nonce have a bound of their own, of the
// same figure. To a request without a user name or a signature, which is all that a reflection needs,
// the answer is as short as it can be; existing clients send both always.
func (s *Server) refuse(r *request, code int) {
	if r.user.malformed {
		s.counters.count(EventMalformedUser)
		return
	}
	if !s.mayRefuse(r, code) {
		s.counters.count(EventRefusalRate)
		return
	}
	s.counters.responded(r.m.Method, code)
	const both = stun.HasUsername | stun.HasMessageIntegrity
	vouched := r.checked || r.m.Has&both == both
	w := stun.Start(s.out.bytes, stun.Failure, r.m.Method, r.m.ID)
	if vouched {
		w.Text(stun.Software, s.software)
		w.Error(code, reasonOf(code))
	} else {
		w.Error(code, "")
	}
	if r.challenge {
		n := s.nonces.issue(r.from.Remote)
		w.Text(stun.Realm, s.realm)
		w.Text(stun.Nonce, n[:])
	}
	if r.checked || vouched && r.user.signs {
		w.Sign(r.user.key[:])
	}
	s.send(r.from, w.Bytes())
}

// succeed answers with an empty success.
func (s *Server) succeed(r *request) {
	w := s.begin(r.m.Method, r.m.ID)
	s.finish(r, &w)
}

// finish signs a success and sends it.
func (s *Server) finish(r *request, w *stun.Builder) {
	s.counters.responded(r.m.Method, 0)
	w.Sign(r.user.key[:])
	s.send(r.from, w.Bytes())
}

// serve does what an authenticated request asks for.
func (s *Server) serve(r *request) {
	switch r.m.Method {
	case stun.Allocate:
		s.allocate(r)
	case stun.Refresh:
		s.refresh(r)
	case stun.ChannelBind:
		s.channelBind(r)
	case stun.CreatePermission:
		s.succeed(r) // and gives nothing: channels are the only permissions, and have rules of their own
	}
}

// lifetime returns the granted lifetime in seconds.
func lifetime(m *stun.Message) uint32 {
	if m.Has&stun.HasLifetime == 0 {
		return defaultLifetime
	}
	return min(m.Lifetime, maxLifetime)
}

// The lifetimes of allocations, in seconds (RFC 8656 section 7.2).
const (
	defaultLifetime = 600
	maxLifetime     = 3600
)
