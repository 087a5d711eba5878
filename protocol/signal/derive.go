package signal

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// PSKBase is the secret of 32 bytes that a portal keeps for each device.
type PSKBase = PresharedKey

// End is one end of a connection between devices, as keys and credentials are derived from it.
type End struct {
	ID        ID
	PublicKey PublicKey
}

// DerivePSK returns the preshared key between a client and a gateway. It is the same whenever
// both keys are, so that devices recognise a repeated authorization.
func DerivePSK(client, gateway End, clientBase, gatewayBase PSKBase) (PresharedKey, error) {
	salt := fmt.Sprintf("WG_PSK|C_ID:%v|G_ID:%v|C_PK:%v|G_PK:%v", client.ID, gateway.ID, client.PublicKey, gateway.PublicKey)
	return derivePSK(salt, clientBase, gatewayBase)
}

// DerivePeerPSK returns the preshared key between two clients.
func DerivePeerPSK(initiator, target End, initiatorBase, targetBase PSKBase) (PresharedKey, error) {
	salt := fmt.Sprintf("WG_PSK_CC|CA_ID:%v|CB_ID:%v|CA_PK:%v|CB_PK:%v", initiator.ID, target.ID, initiator.PublicKey, target.PublicKey)
	return derivePSK(salt, initiatorBase, targetBase)
}

func derivePSK(salt string, a, b PSKBase) (PresharedKey, error) {
	x, y := a.Reveal(), b.Reveal()
	const once = 1 // the bases are random: nothing is to be stretched
	key, err := pbkdf2.Key(sha256.New, string(x[:])+string(y[:]), []byte(salt), once, len(x))
	if err != nil {
		return PresharedKey{}, fmt.Errorf("derive preshared key: %w", err)
	}
	return NewPresharedKey([32]byte(key)), nil
}

// DeriveICE returns the credentials of both sides of a connection.
func DeriveICE(initiator, receiver End) (ofInitiator, ofReceiver ICECredentials) {
	seed := fmt.Sprintf("%v:%v:%v:%v", initiator.ID, initiator.PublicKey, receiver.ID, receiver.PublicKey)
	sum := sha256.Sum256([]byte(seed))
	h := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:]))
	return ICECredentials{h[0:4], NewSecret(h[4:26])}, ICECredentials{h[26:30], NewSecret(h[30:52])}
}

// RelayID returns the ID of the relay with this stamp secret: a UUID of version 4 made of its
// hash.
func RelayID(stamp Secret) ID {
	sum := sha256.Sum256([]byte(stamp.Reveal()))
	id := ID(sum[:16])
	id[6] = id[6]&0x0f | 0x40
	id[8] = id[8]&0x3f | 0x80
	return id
}

// GatewayRelayExpiry is the end of the TURN credentials that a portal gives gateways,
// 2038-01-01T00:00:00Z: fixed, so that a reconnect does not change them.
const GatewayRelayExpiry = 2145916800

// TURNCredentials returns what the device with this key presents to the relay with this stamp
// secret until the given second of Unix time.
func TURNCredentials(stamp Secret, key PublicKey, expires int64) (username string, password Secret) {
	sum := sha256.Sum256([]byte(key.String()))
	salt := base64.RawStdEncoding.EncodeToString(sum[:])
	return strconv.FormatInt(expires, 10) + ":" + salt, turnPassword(stamp, expires, salt)
}

// TURNPassword returns the password that belongs to username at the relay with this stamp
// secret, and when both expire. It reports false if username is not of the form expiry:salt.
func TURNPassword(stamp Secret, username string) (password Secret, expires int64, ok bool) {
	e, salt, ok := strings.Cut(username, ":")
	expires, err := strconv.ParseInt(e, 10, 64)
	if !ok || err != nil || e != strconv.FormatInt(expires, 10) || len(username) > maxUsername {
		return Secret{}, 0, false
	}
	return turnPassword(stamp, expires, salt), expires, true
}

// maxUsername bounds what a relay hashes for a stranger: expiry, colon and salt take 54 bytes.
const maxUsername = 128

func turnPassword(stamp Secret, expires int64, salt string) Secret {
	sum := sha256.Sum256(fmt.Appendf(nil, "%d:%s:%s", expires, stamp.Reveal(), salt))
	return NewSecret(base64.RawStdEncoding.EncodeToString(sum[:]))
}
