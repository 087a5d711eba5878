package config

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// Schema returns the language as a JSON Schema (draft 2020-12), for editors. A file that Parse
// accepts is valid against it; the reverse does not hold, see the package comment.
func Schema() []byte {
	s := language.schema()
	s["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	s["title"] = "firelane policy file"
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		panic(fmt.Sprintf("the schema is not JSON: %v", err)) // it is made of maps, lists and texts
	}
	return b.Bytes()
}

func (s *shape) schema() map[string]any {
	m := map[string]any{}
	if s.about != "" {
		m["description"] = s.about
	}
	switch s.kind {
	case object:
		s.objectSchema(m)
	case list:
		m["type"], m["items"], m["maxItems"] = "array", s.item.schema(), s.max
		if s.least > 0 {
			m["minItems"] = s.least
		}
	case text:
		m["type"], m["minLength"] = "string", 1
	case port:
		m["type"] = []string{"string", "integer"}
		m["minimum"], m["maximum"] = 1, 65535
	case boolean:
		m["type"] = "boolean"
	case integer, number:
		m["type"], m["minimum"], m["maximum"] = s.kind.jsonName(), s.low, s.high
	}
	if s.enum != nil {
		m["enum"] = s.enum
		delete(m, "minLength")
	}
	if s.pattern != "" {
		m["pattern"] = s.pattern
	}
	if s.never != "" {
		m["not"] = map[string]any{"const": s.never}
	}
	if s.max > 0 && s.kind == text {
		m["maxLength"] = s.max // characters here, bytes in Parse, which is stricter
	}
	return m
}

func (s *shape) objectSchema(m map[string]any) {
	properties, required := map[string]any{}, []string{}
	for _, f := range s.fields {
		properties[f.name] = f.shape.schema()
		if f.required {
			required = append(required, f.name)
		}
	}
	m["type"], m["properties"], m["additionalProperties"] = "object", properties, false
	if len(required) > 0 {
		m["required"] = required
	}
}

func (k kind) jsonName() string {
	if k == integer {
		return "integer"
	}
	return "number"
}
