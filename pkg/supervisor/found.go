package supervisor

import (
	"github.com/supervisord-go/supervisord/pkg/supervisor/socket"
	"github.com/supervisord-go/supervisord/pkg/supervisor/unit"
)

// found is told what a process did to a socket that it was given. It must not wait.
func (m *Manager) found(name string, f socket.Finding) {
	of, _ := unit.SplitSocket(name)
	m.log.Warn().Str("unit", of+".socket").Msg(m.report.blame(name, f))
	if f.Dead != 0 {
		go m.replace(name, f.Dead)
	}
}

// replace tells the services whose processes hold a dead socket.
func (m *Manager) replace(name string, dead uint64) {
	of, _ := unit.SplitSocket(name)
	for service, holders := range m.doors.Holders(name, dead) {
		if e := m.find(service); e.Actor != nil {
			e.Tell(unit.Broken{Socket: of, Procs: holders})
		}
	}
}
