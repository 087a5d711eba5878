package wireguard

import (
	"crypto/ecdh"
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/crypto/blake2s"

	"github.com/firelane/firelane/protocol/wireguard/aead"
)

// Job is handshake arithmetic that takes long (two or three curve operations, about 0.1 ms). It
// holds all its inputs, owns them, and touches nothing else: Run may be called on any goroutine,
// once. Its result must be given to Device.HandleJob, whatever became of the peer meanwhile.
type Job interface {
	Run() JobResult
}

// JobResult is what Device.HandleJob takes back.
type JobResult interface {
	apply(d *Device, now time.Time)
}

// readInitiation is the first half of answering an initiation: who sent it?
type readInitiation struct {
	id   *identity
	msg  [InitiationSize]byte
	from netip.AddrPort
}

// initiationRead names the sender, as claimed: only the timestamp proves it.
type initiationRead struct {
	job    *readInitiation
	ok     bool
	static PublicKey
	state  symmetric
}

func (j *readInitiation) Run() JobResult {
	r := &initiationRead{job: j}
	ephemeral := j.msg[initEphemeral:initStatic]
	r.state = newSymmetric(&j.id.public)
	r.state.mixHash(ephemeral)
	r.state.mixKey(ephemeral)
	es, ok := dh(j.id.private, ephemeral)
	if !ok {
		return r
	}
	c := r.state.mixKeyAnd(es[:])
	clear(es[:])
	r.ok = r.state.open(c, r.static[:], j.msg[initStatic:initTimestamp])
	return r
}

// answerInitiation is the second half: is it genuine and new, and what is the response?
type answerInitiation struct {
	id        *identity
	peer      *Peer // not touched by Run
	public    PublicKey
	psk       PresharedKey
	ss        *[keySize]byte // static-static secret, nil when not known yet; immutable
	state     symmetric
	msg       [InitiationSize]byte
	from      netip.AddrPort
	latest    timestamp // of the initiations accepted before
	ephemeral [keySize]byte
}

// initiationAnswered holds the response but for our index and the MACs, and both transport keys.
type initiationAnswered struct {
	job      *answerInitiation
	genuine  bool
	fresh    bool
	ok       bool
	stamp    timestamp
	ss       *[keySize]byte
	response [ResponseSize]byte
	send     *aead.Key
	receive  *aead.Key
}

func (j *answerInitiation) Run() JobResult {
	r := &initiationAnswered{job: j, ss: j.ss}
	if r.ss == nil {
		ss, ok := dh(j.id.private, j.public[:])
		if !ok {
			return r
		}
		r.ss = &ss
	}
	c := j.state.mixKeyAnd(r.ss[:])
	r.genuine = j.state.open(c, r.stamp[:], j.msg[initTimestamp:initMac1])
	r.fresh = r.stamp.after(j.latest)
	if r.genuine && r.fresh {
		r.ok = j.respond(r)
	}
	j.state.wipe()
	clear(j.ephemeral[:])
	clear(j.psk[:])
	return r
}

func (j *answerInitiation) respond(r *initiationAnswered) bool {
	ephemeral, err := ecdh.X25519().NewPrivateKey(j.ephemeral[:])
	if err != nil {
		return false
	}
	public := ephemeral.PublicKey().Bytes()
	j.state.mixHash(public)
	j.state.mixKey(public)
	ee, ok := dh(ephemeral, j.msg[initEphemeral:initStatic])
	if !ok {
		return false
	}
	j.state.mixKey(ee[:])
	clear(ee[:])
	se, ok := dh(ephemeral, j.public[:])
	if !ok {
		return false
	}
	j.state.mixKey(se[:])
	clear(se[:])
	c := j.state.mixPresharedKey(&j.psk)

	binary.LittleEndian.PutUint32(r.response[0:], uint32(KindResponse))
	copy(r.response[respReceiver:respEphemeral], j.msg[offSender:])
	copy(r.response[respEphemeral:respEmpty], public)
	j.state.seal(c, r.response[respEmpty:respEmpty], nil)
	fromInitiator, fromResponder := j.state.split()
	r.send, r.receive = transportKeys(&fromResponder, &fromInitiator)
	return true
}

// writeInitiation makes an initiation but for our index and the MACs.
type writeInitiation struct {
	id        *identity
	peer      *Peer // not touched by Run
	public    PublicKey
	ss        *[keySize]byte
	stamp     timestamp
	ephemeral [keySize]byte
}

type initiationWritten struct {
	job     *writeInitiation
	ok      bool
	ss      *[keySize]byte
	private *ecdh.PrivateKey
	state   symmetric
	message [InitiationSize]byte
}

func (j *writeInitiation) Run() JobResult {
	r := &initiationWritten{job: j, ss: j.ss}
	if r.ss == nil {
		ss, ok := dh(j.id.private, j.public[:])
		if !ok {
			return r
		}
		r.ss = &ss
	}
	ephemeral, err := ecdh.X25519().NewPrivateKey(j.ephemeral[:])
	clear(j.ephemeral[:])
	if err != nil {
		return r
	}
	public := ephemeral.PublicKey().Bytes()
	r.private = ephemeral
	r.state = newSymmetric(&j.public)
	r.state.mixHash(public)
	r.state.mixKey(public)
	es, ok := dh(ephemeral, j.public[:])
	if !ok {
		return r
	}
	binary.LittleEndian.PutUint32(r.message[0:], uint32(KindInitiation))
	copy(r.message[initEphemeral:initStatic], public)
	r.state.seal(r.state.mixKeyAnd(es[:]), r.message[initStatic:initStatic], j.id.public[:])
	r.state.seal(r.state.mixKeyAnd(r.ss[:]), r.message[initTimestamp:initTimestamp], j.stamp[:])
	clear(es[:])
	r.ok = true
	return r
}

// readResponse completes a handshake of ours.
type readResponse struct {
	id        *identity
	peer      *Peer      // not touched by Run
	handshake *handshake // likewise; names what the response belongs to
	psk       PresharedKey
	private   *ecdh.PrivateKey
	state     symmetric
	msg       [ResponseSize]byte
	from      netip.AddrPort
}

type responseRead struct {
	job     *readResponse
	ok      bool
	send    *aead.Key
	receive *aead.Key
}

func (j *readResponse) Run() JobResult {
	r := &responseRead{job: j}
	r.ok = j.complete(r)
	j.state.wipe()
	clear(j.psk[:])
	return r
}

func (j *readResponse) complete(r *responseRead) bool {
	ephemeral := j.msg[respEphemeral:respEmpty]
	j.state.mixHash(ephemeral)
	j.state.mixKey(ephemeral)
	ee, ok := dh(j.private, ephemeral)
	if !ok {
		return false
	}
	j.state.mixKey(ee[:])
	clear(ee[:])
	se, ok := dh(j.id.private, ephemeral)
	if !ok {
		return false
	}
	j.state.mixKey(se[:])
	clear(se[:])
	c := j.state.mixPresharedKey(&j.psk)
	if !j.state.open(c, nil, j.msg[respEmpty:respEmpty+aead.TagSize]) {
		return false
	}
	fromInitiator, fromResponder := j.state.split()
	r.send, r.receive = transportKeys(&fromInitiator, &fromResponder)
	return true
}

// transportKeys expands both keys of a session and wipes them.
func transportKeys(send, receive *[blake2s.Size]byte) (*aead.Key, *aead.Key) {
	s, err := aead.New(send)
	if err != nil {
		panic("wireguard: " + err.Error())
	}
	r, err := aead.New(receive)
	if err != nil {
		panic("wireguard: " + err.Error())
	}
	clear(send[:])
	clear(receive[:])
	return s, r
}
