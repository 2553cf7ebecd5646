package supervisor

import (
	"fmt"
	"slices"

	"github.com/supervisord-go/supervisord/pkg/ipc"
	"github.com/supervisord-go/supervisord/pkg/supervisor/config"
)

// A unit that the configuration has an error in is set aside at a start: it is
// there, failed, and says why; nothing of it runs until a daemon-reload has it right.

// asideOf is what was set aside under that name, as verbs take it.
func asideOf(c *config.Config, name string) (config.Aside, bool) {
	i := slices.IndexFunc(c.Aside, func(a config.Aside) bool { return a.String() == name })
	if i < 0 {
		return config.Aside{}, false
	}
	return c.Aside[i], true
}

// spoiled says that a verb cannot be done to what was set aside.
func spoiled(verb string, a config.Aside) error {
	e := &ipc.Error{
		Code: ipc.Invalid, Message: fmt.Sprintf("cannot %s %s: %s", verb, a, a.Problems[0]),
		Notes: []string{"the configuration had this error when supervisord was started, so it has no such unit"},
		Hints: []string{"correct it, then: superctl daemon-reload"},
	}
	for _, p := range a.Problems[1:] {
		e.Notes = append(e.Notes, p.String())
	}
	return e
}

// asideStatus is the status of a service that was set aside.
func asideStatus(a config.Aside, whole bool) ipc.UnitStatus {
	u := ipc.UnitStatus{Name: a.Name, ActiveState: "failed", SubState: "failed", Result: "bad-setting", Note: a.Problems[0].String()}
	if whole {
		for _, p := range a.Problems {
			u.Problems = append(u.Problems, p.String())
		}
		u.Hints = []string{"correct it, then: superctl daemon-reload"}
	}
	return u
}
