package wireguard

import (
	"bytes"
	"encoding/binary"
	"time"
)

const timestampSize = 12

// timestamp is a TAI64N label: seconds since 1970 TAI plus 2^62, then nanoseconds, both
// big-endian, so that byte order is time order.
type timestamp [timestampSize]byte

// tai64Base is the label of the Unix epoch; TAI was 10 s ahead of UTC then, and later leap
// seconds are ignored, as other implementations do: only the order counts.
const tai64Base = 1<<62 + 10

// stampGrain is how coarse timestamps are, in nanoseconds (16.8 ms): finer ones would tell an
// observer of one peer's clock more than it needs.
const stampGrain = 1 << 24

// stampAt labels now, or the grain after last when the clock has not advanced past it: labels
// of one device strictly increase whatever its clock does.
func stampAt(now time.Time, last timestamp) timestamp {
	t := labelOf(now.Unix(), now.Nanosecond()&^(stampGrain-1))
	if t.after(last) {
		return t
	}
	seconds := int64(binary.BigEndian.Uint64(last[:8]) - tai64Base)
	nanos := int(binary.BigEndian.Uint32(last[8:])) + stampGrain
	if nanos >= int(time.Second) {
		seconds, nanos = seconds+1, 0
	}
	return labelOf(seconds, nanos)
}

func labelOf(seconds int64, nanos int) (t timestamp) {
	binary.BigEndian.PutUint64(t[:8], tai64Base+uint64(seconds))
	binary.BigEndian.PutUint32(t[8:], uint32(nanos))
	return t
}

// after reports whether t is later than u.
func (t timestamp) after(u timestamp) bool { return bytes.Compare(t[:], u[:]) > 0 }
