package service

import (
	"encoding/json"
	"reflect"

	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// A Record is what is stored of a unit: its state, what identifies the processes in
// it, and the effects that could not be derived from the state again.
type Record struct {
	Service unit.Service
	Traces  map[unit.Invocation]json.RawMessage
	Finish  []unit.Finish     `json:",omitempty"`
	Forget  []unit.Invocation `json:",omitempty"`
}

// keep stores the state, unless only deadlines moved: a restore sets those anew.
func (a *Actor) keep(before unit.Service, effects []unit.Effect) {
	if len(effects) == 0 && a.fault == nil && reflect.DeepEqual(durable(before), durable(a.state)) {
		return
	}
	r := Record{Service: a.state, Traces: map[unit.Invocation]json.RawMessage{}}
	for id, u := range a.runs {
		if u.Handle != nil && a.state.Find(id).ID != 0 {
			r.Traces[id] = u.trace
		}
	}
	for _, f := range effects {
		switch f := f.(type) {
		case unit.Finish:
			r.Finish = append(r.Finish, f)
		case unit.Forget:
			r.Forget = append(r.Forget, f.ID)
		}
	}
	a.fault = a.world.Save(r)
}

// durable is s without what a ping or a request for more time changes.
func durable(s unit.Service) unit.Service {
	c := s
	c.Inst = make([]unit.Instance, len(s.Inst))
	for i, in := range s.Inst {
		for _, p := range []*unit.Proc{&in.Main, &in.Next} {
			p.By, p.Last, p.Ping = 0, 0, 0
		}
		old := make([]unit.Proc, len(in.Old))
		for k, p := range in.Old {
			p.By, p.Last, p.Ping = 0, 0, 0
			old[k] = p
		}
		in.Old = old
		c.Inst[i] = in
	}
	return c
}
