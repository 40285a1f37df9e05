package discovery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"rollcall/discovery/plan"
	"rollcall/discovery/resource"
	"rollcall/failure"
)

// FakeTeleport keeps resources of one kind in memory and behaves as Teleport
// does where that matters here: it lists silently less than there is to who may
// see less, says of a hidden name that it exists already, doesn't compare
// revisions, deletes unconditionally, and forgets what has expired. It notes
// every write.
type FakeTeleport struct {
	kind resource.Kind
	// sees is the owner label to which our role is limited; empty: everything.
	sees string

	// mu protects the following.
	mu     sync.Mutex
	things map[string]resource.Resource
	writes []FakeWrite
	// tried are the deletions that were asked for, done or not.
	tried []FakeWrite
	lists int
	gets  int
	// fault is asked before each call; an error is returned without anything
	// being done.
	fault func(op, name string) error
	// lost is asked after each write; an error is returned although it was
	// done.
	lost func(op, name string) error
	// delay is how long each write takes.
	delay time.Duration
	// lag is how long reads don't show a write of the reconciler's, as those
	// from the cache of Teleport's auth service don't; nil: they show it at
	// once. What people do is seen at once, since the server checks no revision
	// and so nothing could be done about it.
	lag func() time.Duration
	// unseen are the states that reads still show.
	unseen map[string]unseen
}

// unseen is what reads show of one name until a time; nil: nothing.
type unseen struct {
	shows *resource.Resource
	until time.Time
}

// view returns what a read shows of a name.
func (f *FakeTeleport) view(name string) (resource.Resource, bool) {
	r, there := f.things[name]
	if old, ok := f.unseen[name]; ok && time.Now().Before(old.until) {
		if old.shows == nil {
			return resource.Resource{}, false
		}
		r, there = *old.shows, true
	}
	return r, there && f.visible(r)
}

// hide has reads show what was there before a write for a while longer.
func (f *FakeTeleport) hide(name string) {
	if f.lag == nil {
		return
	}
	old, still := f.unseen[name]
	if still && time.Now().Before(old.until) {
		return // what is older is shown first
	}
	old = unseen{until: time.Now().Add(f.lag())}
	if r, there := f.things[name]; there {
		old.shows = &r
	}
	if f.unseen == nil {
		f.unseen = map[string]unseen{}
	}
	f.unseen[name] = old
}

// FakeWrite is one write that was done.
type FakeWrite struct {
	At     time.Time
	Op     string
	Name   string
	Before resource.Resource // as it was just before; zero: nothing
	Shown  resource.Resource // as reads showed it just before
}

func NewFakeTeleport(things ...resource.Resource) *FakeTeleport {
	f := &FakeTeleport{kind: resource.KindApp, things: map[string]resource.Resource{}}
	for _, r := range things {
		f.things[r.Name] = r
	}
	return f
}

// Put is a person's or another program's write.
func (f *FakeTeleport) Put(r resource.Resource) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.things[r.Name] = r
	delete(f.unseen, r.Name)
}

// Drop is a person's deletion.
func (f *FakeTeleport) Drop(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.things, name)
	delete(f.unseen, name)
}

// All returns what there is by name.
func (f *FakeTeleport) All() map[string]resource.Resource {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire()
	return maps.Clone(f.things)
}

// Names returns the names of what there is, sorted.
func (f *FakeTeleport) Names() []string { return slices.Sorted(maps.Keys(f.All())) }

// Reads returns how often everything was listed, and one was read.
func (f *FakeTeleport) Reads() (lists, gets int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lists, f.gets
}

// Writes returns what was written, as "op name" words.
func (f *FakeTeleport) Writes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var words []string
	for _, w := range f.writes {
		words = append(words, w.Op+" "+w.Name)
	}
	return words
}

func (f *FakeTeleport) expire() {
	maps.DeleteFunc(f.things, func(_ string, r resource.Resource) bool {
		return !r.Expires.IsZero() && !time.Now().Before(r.Expires)
	})
}

func (f *FakeTeleport) visible(r resource.Resource) bool { return f.sees == "" || r.Owner() == f.sees }

func (f *FakeTeleport) List(ctx context.Context) ([]resource.Resource, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	if err := f.failing(ctx, "list", ""); err != nil {
		return nil, err
	}
	f.expire()
	var all []resource.Resource
	names := maps.Clone(f.things)
	for name := range f.unseen {
		names[name] = resource.Resource{}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if r, there := f.view(name); there {
			all = append(all, r)
		}
	}
	return all, nil
}

func (f *FakeTeleport) Get(ctx context.Context, name string) (resource.Resource, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gets++
	if err := f.failing(ctx, "get", name); err != nil {
		return resource.Resource{}, err
	}
	f.expire()
	r, ok := f.view(name)
	if there, exists := f.things[name]; !ok && exists && !f.visible(there) {
		return resource.Resource{}, failure.New(failure.Refused, "app %q is registered, but the role may not see it", name)
	}
	if !ok {
		return resource.Resource{}, failure.New(failure.NotFound, "app %q doesn't exist", name)
	}
	return r, nil
}

func (f *FakeTeleport) Create(ctx context.Context, r resource.Resource) error {
	return f.write(ctx, "create", r, func(_ resource.Resource, exists bool) error {
		if exists {
			return failure.New(failure.Conflict, "app %q exists already", r.Name)
		}
		return nil
	})
}

func (f *FakeTeleport) Update(ctx context.Context, r resource.Resource) error {
	return f.write(ctx, "update", r, f.mayChange)
}

func (f *FakeTeleport) Delete(ctx context.Context, r resource.Resource) error {
	return f.write(ctx, "delete", r, f.mayChange)
}

func (f *FakeTeleport) mayChange(there resource.Resource, exists bool) error {
	switch {
	case !exists:
		return failure.New(failure.NotFound, "the app doesn't exist")
	case !f.visible(there):
		return failure.New(failure.Refused, "access denied")
	}
	return nil
}

func (f *FakeTeleport) write(ctx context.Context, op string, r resource.Resource, check func(resource.Resource, bool) error) error {
	if f.delay > 0 {
		pause(ctx, f.delay)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.expire()
	there, exists := f.things[r.Name]
	if op == "delete" {
		f.tried = append(f.tried, FakeWrite{At: time.Now(), Op: op, Name: r.Name, Before: there})
	}
	if err := f.failing(ctx, op, r.Name); err != nil {
		return err
	}
	if err := check(there, exists); err != nil {
		return err
	}
	shown, _ := f.view(r.Name)
	f.writes = append(f.writes, FakeWrite{At: time.Now(), Op: op, Name: r.Name, Before: there, Shown: shown})
	f.hide(r.Name)
	if op == "delete" {
		delete(f.things, r.Name)
	} else {
		f.things[r.Name] = r.Clone()
	}
	if f.lost != nil {
		return f.lost(op, r.Name)
	}
	return nil
}

func (f *FakeTeleport) failing(ctx context.Context, op, name string) error {
	if ctx.Err() != nil {
		return failure.Wrap(failure.Unreachable, ctx.Err(), "the cluster didn't answer in time")
	}
	if f.fault == nil {
		return nil
	}
	return f.fault(op, name)
}

// FakeSource tells what a test wants it to.
type FakeSource struct {
	// mu protects the following.
	mu    sync.Mutex
	wants map[string]Candidate
	err   error
	reads int
	hint  func()
	// silent keeps the subscription from hinting.
	silent bool
}

func NewFakeSource(candidates ...Candidate) *FakeSource {
	s := &FakeSource{wants: map[string]Candidate{}}
	for _, c := range candidates {
		s.wants[c.Workload] = c
	}
	return s
}

// Set starts or changes a workload, and hints.
func (s *FakeSource) Set(c Candidate) {
	s.change(func() { s.wants[c.Workload] = c })
}

// Stop ends workloads, and hints.
func (s *FakeSource) Stop(workloads ...string) {
	s.change(func() {
		for _, workload := range workloads {
			delete(s.wants, workload)
		}
	})
}

// Fail has every read fail; nil: no more.
func (s *FakeSource) Fail(err error) { s.change(func() { s.err = err }) }

func (s *FakeSource) change(how func()) {
	s.mu.Lock()
	how()
	hint := s.hint
	s.mu.Unlock()
	if hint != nil {
		hint()
	}
}

func (s *FakeSource) Reads() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads
}

func (s *FakeSource) Read(context.Context) ([]Candidate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.err != nil {
		return nil, s.err
	}
	var all []Candidate
	for _, workload := range slices.Sorted(maps.Keys(s.wants)) {
		all = append(all, s.wants[workload])
	}
	return all, nil
}

func (s *FakeSource) Watch(ctx context.Context, hint func()) error {
	s.mu.Lock()
	s.hint = hint
	if !s.silent {
		hint()
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.hint = nil
	s.mu.Unlock()
	return nil
}

// MemoryStore is a StateStore that outlives a reconciler.
type MemoryStore struct {
	mu        sync.Mutex
	data      []byte
	approvals []string
	fault     error
	saves     int
}

func (m *MemoryStore) Load() ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data, m.fault
}

func (m *MemoryStore) Save(data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fault != nil {
		return m.fault
	}
	m.saves++
	m.data = slices.Clone(data)
	return nil
}

func (m *MemoryStore) TakeApprovals() ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	taken := m.approvals
	m.approvals = nil
	return taken, m.fault
}

func (m *MemoryStore) Approve(hash string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.approvals = append(m.approvals, hash)
}

// Journal is an Auditor that keeps every entry.
type Journal struct {
	mu      sync.Mutex
	entries []Entry
}

func (j *Journal) Audit(_ context.Context, e Entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, e)
}

func (j *Journal) Words() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var words []string
	for _, e := range j.entries {
		words = append(words, fmt.Sprintf("%s %s %s", e.Op, e.Key.Name, e.Outcome))
	}
	return words
}

const (
	us       = "bot/host/rabbit"
	fromHere = "docker/rabbit"
)

// container is a workload that asks for an application of its own name.
func container(name string) Candidate { return named(name, name) }

func named(workload, name string) Candidate {
	return Candidate{Workload: workload, Resource: resource.Resource{
		Kind: resource.KindApp, Name: name, Spec: resource.AppSpec{URI: "http://" + workload + ".test:80"},
	}}
}

func moved(c Candidate, uri string) Candidate {
	c.Resource.Spec = resource.AppSpec{URI: uri}
	return c
}

// ours is the application that a container of that name has registered.
func ours(name string) resource.Resource {
	r := container(name).Resource
	r.Labels = map[string]string{
		resource.LabelOwner: us, resource.LabelSource: fromHere, resource.LabelWorkload: name,
	}
	return r
}

// theirs is an application that a person made.
func theirs(name string) resource.Resource {
	r := container(name).Resource
	r.Labels = map[string]string{"team": "them"}
	return r
}

// quickGuard lets what is absent be deleted at once.
func quickGuard() plan.Guard { return plan.Guard{AbsentReads: 1, AbsentFor: -1} }

// journalText is what was logged. It may be read while more is.
type journalText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journalText) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journalText) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
