package agent

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/gravitational/trace"

	"rollcall/discovery/resource"
)

// Where an agent's files are, inside its container; all of them beside the
// configuration.
const (
	tokenFile  = "rollcall-token"
	caFile     = "rollcall-ca.pem"
	recordFile = "rollcall.json"
)

// fileAt is the path of one of the files.
func (o *Options) fileAt(name string) string { return path.Join(path.Dir(o.ConfigPath), name) }

// teleportConfig is the agent's configuration file. JSON is YAML; rendering it
// needs no templates, and nothing in a name can break out of its place.
func teleportConfig(o *Options, node string, r resource.Resource) ([]byte, error) {
	spec, ok := r.Spec.(resource.AppSpec)
	if !ok {
		return nil, trace.BadParameter("%s isn't an application", r.Key())
	}
	type m = map[string]any
	app := m{
		"name": r.Name, "description": r.Description, "uri": spec.URI, "public_addr": spec.PublicAddr,
		"insecure_skip_verify": spec.InsecureSkipVerify, "labels": r.Labels,
	}
	if spec.Rewrite != nil {
		var headers []string
		for _, h := range spec.Rewrite.Headers {
			headers = append(headers, h.Name+": "+h.Value)
		}
		app["rewrite"] = m{"redirect": spec.Rewrite.Redirect, "headers": headers}
	}
	var commands []m
	for _, name := range slices.Sorted(maps.Keys(spec.DynamicLabels)) {
		label := spec.DynamicLabels[name]
		commands = append(commands, m{"name": name, "command": label.Command, "period": label.Period.String()})
	}
	if commands != nil {
		app["commands"] = commands
	}
	return json.MarshalIndent(m{
		"version": "v3",
		"teleport": m{
			"nodename":     node,
			"data_dir":     "/var/lib/teleport",
			"proxy_server": o.ProxyAddr,
			"join_params":  m{"method": "token", "token_name": o.fileAt(tokenFile)},
			"log":          m{"output": "stderr", "severity": "INFO"},
		},
		"auth_service":  m{"enabled": false},
		"proxy_service": m{"enabled": false},
		"ssh_service":   m{"enabled": false},
		"app_service":   m{"enabled": true, "apps": []m{app}},
	}, "", "  ")
}

// record is what an agent was started for, kept in its container: it's how it's
// known again after a crash. It can hold headers that are secrets, so it's a
// file and no label.
type record struct {
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Spec        resource.AppSpec  `json:"spec"`
}

func encodeRecord(r resource.Resource) ([]byte, error) {
	spec, ok := r.Spec.(resource.AppSpec)
	if !ok {
		return nil, trace.BadParameter("%s isn't an application", r.Key())
	}
	return json.Marshal(record{r.Name, r.Description, r.Labels, spec})
}

func decodeRecord(content []byte) (resource.Resource, error) {
	var read record
	if err := json.Unmarshal(content, &read); err != nil {
		return resource.Resource{}, trace.BadParameter("it can't be read")
	}
	if read.Name == "" {
		return resource.Resource{}, trace.BadParameter("it has no name")
	}
	return resource.Resource{
		Kind: resource.KindApp, Name: read.Name, Description: read.Description, Labels: read.Labels, Spec: read.Spec,
	}, nil
}

// file is one that is put into a container.
type file struct {
	name    string // absolute
	content []byte
	mode    int64
}

// pack makes the archive that Docker unpacks at the container's root.
func pack(now time.Time, files ...file) ([]byte, error) {
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	made := map[string]bool{}
	for _, f := range files {
		if dir := strings.TrimPrefix(path.Dir(f.name), "/") + "/"; !made[dir] && dir != "/" {
			made[dir] = true
			if err := archive.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755, ModTime: now}); err != nil {
				return nil, trace.Wrap(err)
			}
		}
		header := &tar.Header{Name: strings.TrimPrefix(f.name, "/"), Typeflag: tar.TypeReg, Mode: f.mode, Size: int64(len(f.content)), ModTime: now}
		if err := archive.WriteHeader(header); err != nil {
			return nil, trace.Wrap(err)
		}
		if _, err := archive.Write(f.content); err != nil {
			return nil, trace.Wrap(err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, trace.Wrap(err)
	}
	return out.Bytes(), nil
}
