package unit

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func shared(port int) *Socket {
	return &Socket{Name: "http", Listen: []Address{{Network: "tcp", Port: port}}}
}

// own is a socket of each instance; path has %s for its number.
func own(path string) *Socket {
	return &Socket{Name: "own", Listen: []Address{{Network: "unix", Path: fmt.Sprintf(path, Placeholder)}}}
}

// doorsAreOrdered: what a process is started with is open before it is spawned,
// nothing shuts before the end, and then the world has what is wanted.
func doorsAreOrdered(s Service, _ Event, to Service, effects []Effect) string {
	before := s.Doors()
	doors := before
	for i, f := range effects {
		switch f := f.(type) {
		case Doors:
			doors = f.Doors
			last := i == len(effects)-1 || i == len(effects)-2 && effects[i+1] == Effect(Vanish{})
			if !last && !covers(doors, before) {
				return "no door shuts before all else is done"
			}
		case Spawn:
			if !covers(doors, to.open(f.Gen, f.Inst)) {
				return "a door is open before anyone is started behind it"
			}
		}
	}
	if !sameDoors(doors, to.Doors()) {
		return "doors that are wanted are ordered"
	}
	return ""
}

// covers: doors has all of those, and what is open in those is in it.
func covers(doors, those []Door) bool {
	for _, d := range those {
		i := slices.IndexFunc(doors, func(o Door) bool { return sameSocket(d.Socket, o.Socket) })
		if i < 0 || d.Open && !doors[i].Open {
			return false
		}
	}
	return true
}

// open are the doors that a process of g in instance i needs.
func (s Service) open(g Generation, i int) (doors []Door) {
	for _, k := range s.spec(g).Sockets {
		k, _ := k.Of(i)
		doors = append(doors, Door{k, true})
	}
	return doors
}

// doorsAreKept: whoever lives has the sockets that it was started with, and a door
// is open if and only if there is someone to serve behind it, or will be.
func doorsAreKept(_ Service, _ Event, to Service, _ []Effect) string {
	doors := to.Doors()
	for i, p := range to.located() {
		if shut := to.open(p.Gen, i); !covers(doors, closed(shut)) {
			return "a living process keeps its sockets"
		}
	}
	for _, d := range doors {
		if d.Open != to.answered(d.Socket.Name) {
			return "a door is open while something serves or will, and no longer"
		}
	}
	return ""
}

// lives: it has a process.
func (s Service) lives() bool {
	for range s.located() {
		return true
	}
	return false
}

func closed(doors []Door) []Door {
	for i := range doors {
		doors[i].Open = false
	}
	return doors
}

func (s Service) answered(socket string) bool {
	name, instance := SplitSocket(socket)
	for i, in := range s.Inst {
		gens := []Generation{}
		for at, p := range s.located() {
			if at == i && p.Phase != Stuck {
				gens = append(gens, p.Gen)
			}
		}
		if in.Due != 0 && !s.stuck(in, in.Gen) {
			gens = append(gens, in.Gen)
		}
		if s.Target != 0 && s.Roll != Halt && !in.Surplus && in.Gen != s.goal() {
			gens = append(gens, s.goal())
		}
		has := slices.ContainsFunc(gens, func(g Generation) bool { return s.spec(g).Uses(name) })
		if has && (i == instance || instance < 0 && !in.Surplus) {
			return true
		}
	}
	return false
}

// Two instances on one socket, and one of them ends for good: its end is no
// concern of those who talk to the other.
func TestOneOfTwoEnds(t *testing.T) {
	l := usual
	l.Type, l.Restart = Exec, No
	s := Service{Inst: make([]Instance, 2)}
	var effects []Effect
	for _, e := range []Event{
		asks(1, Start, &Spec{Name: "api", Life: l, Sockets: []*Socket{shared(80)}}, 0),
		Started{1, 101},
		Started{2, 102},
		Exited{2, badly},
		Gone{2},
	} {
		s, effects = Step(s, now, e)
	}
	if s.SubState() != "failed" || len(s.Doors()) != 1 || !s.Doors()[0].Open {
		t.Errorf("%s, doors %v", s.SubState(), s.Doors())
	}
	for _, f := range effects {
		if f, ok := f.(Doors); ok {
			t.Errorf("the other serves, and what is ordered is %v", f)
		}
	}
}

// What was restored has sockets of its own in each build, equal to one another.
func TestDoorsAfterARestore(t *testing.T) {
	k := shared(80)
	s := Service{
		Inst:   []Instance{{Gen: 1, Main: Proc{ID: 1, Gen: 1, Phase: Serving}, Next: Proc{ID: 2, Gen: 2}}},
		Builds: []Build{{Gen: 1, Spec: &Spec{Sockets: []*Socket{k}}}, {Gen: 2, Spec: &Spec{Sockets: []*Socket{k}}}},
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var restored Service
	if err := json.Unmarshal(text, &restored); err != nil {
		t.Fatal(err)
	}
	if doors := restored.Doors(); len(doors) != 1 || !sameDoors(doors, s.Doors()) {
		t.Errorf("doors %v; want one, %v", doors, s.Doors())
	}
}

// The newest definition of a name is the first, and an address that nobody can
// have is no door.
func TestDoorsInOrder(t *testing.T) {
	ports := &Socket{Name: "ports", Listen: []Address{{Network: "tcp", PortOf: "6553" + Placeholder}}}
	build := func(g Generation, ks ...*Socket) Build { return Build{Gen: g, Spec: &Spec{Sockets: ks}} }
	s := Service{
		Inst: []Instance{
			5: {Gen: 1, Main: Proc{ID: 3, Gen: 1, Phase: Serving}, Old: []Proc{{ID: 1, Gen: 2, Phase: Stuck}}},
			6: {Gen: 1, Main: Proc{ID: 4, Gen: 1, Phase: Serving}},
		},
		Builds: []Build{build(1, shared(80), ports), build(2, shared(81), ports, own("/run/%s"))},
	}
	var got []string
	for _, d := range s.Doors() {
		got = append(got, d.String())
	}
	want := "http=[::]:81 http=[::]:80 (own@5=/run/5) ports@5=[::]:65535"
	if text := strings.Join(got, " "); text != want {
		t.Errorf("doors are %s; want %s", text, want)
	}
}
