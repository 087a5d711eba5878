package signal

import "bytes"

// resourceTexts are a resource as it is written, under either names.
type resourceTexts struct{ present, legacy []byte }

func (t *resourceTexts) of(legacyNames bool) []byte {
	if legacyNames {
		return t.legacy
	}
	return t.present
}

// Prepared returns the resource with its text, so that many messages may hold it and it is written once.
// But for LegacyNames the result must not be changed. A resource that cannot be written stays as it is.
func (r ClientResource) Prepared() ClientResource {
	r.texts = nil
	var t resourceTexts
	var err error
	for _, one := range []struct {
		legacy bool
		text   *[]byte
	}{{false, &t.present}, {true, &t.legacy}} {
		of := r
		of.LegacyNames = one.legacy
		if *one.text, err = of.MarshalJSON(); err != nil {
			return r
		}
	}
	r.texts = &t
	return r
}

// prepared returns the texts of a list whose resources are all prepared, and their length together.
func (l Resources) prepared() (texts [][]byte, length int) {
	texts = make([][]byte, len(l))
	for i := range l {
		if l[i].texts == nil {
			return nil, 0
		}
		texts[i] = l[i].texts.of(l[i].LegacyNames)
		length += 1 + len(texts[i])
	}
	return texts, length
}

// noResources is where a client's init has none. Inside of a string its quotes would be escaped.
var noResources = []byte(`"resources":[]`)

// marshalMessage is marshal for messages. Of a client's init, in which a thousand resources are usual,
// the prepared ones are put in as they are. check is shown the rest of the message.
func marshalMessage(m Message, check func(payload []byte) error) ([]byte, error) {
	init, ok := m.(ClientInit)
	if !ok {
		return marshalChecked(m, check)
	}
	texts, length := init.Resources.prepared()
	if len(texts) == 0 {
		return marshalChecked(m, check)
	}
	init.Resources = nil
	payload, err := marshalChecked(init, check)
	if err != nil {
		return nil, err
	}
	at := bytes.Index(payload, noResources) + len(noResources) - 1
	whole := make([]byte, 0, len(payload)+length)
	whole = append(whole, payload[:at]...)
	for i, text := range texts {
		if i > 0 {
			whole = append(whole, ',')
		}
		whole = append(whole, text...)
	}
	return append(whole, payload[at:]...), nil
}

func marshalChecked(m Message, check func(payload []byte) error) ([]byte, error) {
	payload, err := marshal(m)
	if err != nil {
		return nil, err
	}
	return payload, check(payload)
}
