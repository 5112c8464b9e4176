// SPDX-License-Identifier: Apache-2.0

// Command notes lets golang.org/x/mod and transparency-dev/formats read what Pingee wrote, and write what Pingee has to read.
//
//	notes key|sign|open|checkpoint|record|tree|proof|policy <request.json
//
// The request is one JSON object on standard input, bytes in it are base64. The answer is one JSON object. What a library
// refuses is told in its own words on standard error, with exit code 1; exit code 2 is a request that makes no sense.
package main

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"

	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	fproof "github.com/transparency-dev/formats/proof"
	"github.com/transparency-dev/formats/witness"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type request struct {
	Name      string   // of a new key
	Keys      []string // verifier keys of the signers of Note; for a checkpoint and a proof, the one of the log
	Signers   []string // private keys, as `key` made them
	Cosigners []string // verifier keys of type 4; for `sign`, private keys
	Text      []byte   // to be signed
	Note      []byte
	Policy    []byte
	Proof     []byte // a whole .tlog-proof
	Path      [][]byte
	Entry     []byte
	Index     int64
	Size      int64
	Root      []byte
	Old       int64
	OldRoot   []byte
}

type signature struct {
	Name string `json:"name"`
	Time int64  `json:"time,omitempty"`
}

type answer map[string]any

func main() {
	operations := map[string]func(request) (answer, error){
		"key": newKey, "sign": sign, "open": open, "checkpoint": checkpoint,
		"record": record, "tree": tree, "proof": proof, "policy": policy,
	}
	if len(os.Args) != 2 || operations[os.Args[1]] == nil {
		fail(2, "one operation is needed: key, sign, open, checkpoint, record, tree, proof or policy")
	}
	var asked request
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		fail(2, err.Error())
	}
	found, err := operations[os.Args[1]](asked)
	if err != nil {
		fail(1, err.Error())
	}
	if err := json.NewEncoder(os.Stdout).Encode(found); err != nil {
		fail(2, err.Error())
	}
}

func fail(code int, words string) {
	fmt.Fprintln(os.Stderr, words)
	os.Exit(code)
}

func newKey(asked request) (answer, error) {
	private, public, err := note.GenerateKey(rand.Reader, asked.Name)
	if err != nil {
		return nil, err
	}
	cosigner, err := fnote.VKeyToCosignatureV1(public)
	if err != nil {
		return nil, err
	}
	return answer{"private": private, "public": public, "cosigner": cosigner}, nil
}

// sign signs Text, or adds to Note, which must open under Keys.
func sign(asked request) (answer, error) {
	unsigned := &note.Note{Text: string(asked.Text)}
	if asked.Note != nil {
		opened, err := opened(asked)
		if err != nil {
			return nil, err
		}
		unsigned = opened
	}
	var signers []note.Signer
	for _, key := range asked.Signers {
		signer, err := note.NewSigner(key)
		if err != nil {
			return nil, err
		}
		signers = append(signers, signer)
	}
	for _, key := range asked.Cosigners {
		signer, err := fnote.NewSignerForCosignatureV1(key)
		if err != nil {
			return nil, err
		}
		signers = append(signers, signer)
	}
	signed, err := note.Sign(unsigned, signers...)
	return answer{"note": signed}, err
}

func open(asked request) (answer, error) {
	opened, err := opened(asked)
	if err != nil {
		return nil, err
	}
	return answer{"text": []byte(opened.Text), "signed": signatures(opened.Sigs), "unknown": signatures(opened.UnverifiedSigs)}, nil
}

func opened(asked request) (*note.Note, error) {
	var keys []note.Verifier
	for _, key := range asked.Keys {
		verifier, err := note.NewVerifier(key)
		if err != nil {
			return nil, err
		}
		keys = append(keys, verifier)
	}
	return note.Open(asked.Note, note.VerifierList(keys...))
}

func checkpoint(asked request) (answer, error) {
	found, signed, err := opensCheckpoint(asked, asked.Note)
	if err != nil {
		return nil, err
	}
	told := answer{"origin": found.Origin, "size": found.Size, "root": found.Hash, "unknown": signatures(signed.UnverifiedSigs)}
	var by []signature
	for n, line := range signed.Sigs {
		one := signature{Name: line.Name}
		if n > 0 {
			at, err := fnote.CoSigV1Timestamp(line)
			if err != nil {
				return nil, err
			}
			one.Time = at.Unix()
		}
		by = append(by, one)
	}
	told["signed"] = by
	return told, nil
}

func opensCheckpoint(asked request, signed []byte) (*flog.Checkpoint, *note.Note, error) {
	if len(asked.Keys) != 1 {
		return nil, nil, fmt.Errorf("a checkpoint has one log key")
	}
	key, err := fnote.NewVerifier(asked.Keys[0])
	if err != nil {
		return nil, nil, err
	}
	var others []note.Verifier
	for _, cosigner := range asked.Cosigners {
		other, err := fnote.NewVerifierForCosignatureV1(cosigner)
		if err != nil {
			return nil, nil, err
		}
		others = append(others, other)
	}
	found, rest, opened, err := flog.ParseCheckpoint(signed, key.Name(), key, others...)
	if err == nil && len(rest) != 0 {
		err = fmt.Errorf("the checkpoint has extension lines")
	}
	return found, opened, err
}

func record(asked request) (answer, error) {
	path, err := hashes(asked.Path)
	if err != nil {
		return nil, err
	}
	root, err := hash(asked.Root)
	if err != nil {
		return nil, err
	}
	return answer{}, tlog.CheckRecord(path, asked.Size, root, asked.Index, tlog.RecordHash(asked.Entry))
}

func tree(asked request) (answer, error) {
	path, err := hashes(asked.Path)
	if err != nil {
		return nil, err
	}
	root, err := hash(asked.Root)
	if err != nil {
		return nil, err
	}
	old, err := hash(asked.OldRoot)
	if err != nil {
		return nil, err
	}
	return answer{}, tlog.CheckTree(path, asked.Size, root, asked.Old, old)
}

func proof(asked request) (answer, error) {
	var parsed fproof.TLogProof
	if err := parsed.Unmarshal(asked.Proof); err != nil {
		return nil, err
	}
	found, _, err := opensCheckpoint(asked, parsed.Checkpoint)
	if err != nil {
		return nil, err
	}
	root, err := hash(found.Hash)
	if err != nil {
		return nil, err
	}
	path := make(tlog.RecordProof, len(parsed.Hashes))
	for n, one := range parsed.Hashes {
		path[n] = one
	}
	err = tlog.CheckRecord(path, int64(found.Size), root, int64(parsed.Index), tlog.RecordHash(asked.Entry))
	return answer{"index": parsed.Index, "size": found.Size, "again": parsed.Marshal()}, err
}

func policy(asked request) (answer, error) {
	group, err := witness.ParsePolicy(asked.Policy)
	if err != nil {
		return nil, err
	}
	told := answer{"satisfied": group.Satisfied(asked.Note)}
	urls := map[string]string{}
	for url, key := range group.Endpoints() {
		urls[key.Name()] = url
	}
	told["urls"] = urls
	return told, nil
}

func signatures(lines []note.Signature) []signature {
	names := []signature{}
	for _, line := range lines {
		names = append(names, signature{Name: line.Name})
	}
	return names
}

func hash(data []byte) (found tlog.Hash, err error) {
	if len(data) != tlog.HashSize {
		return found, fmt.Errorf("a hash has %d bytes", tlog.HashSize)
	}
	return tlog.Hash(data), nil
}

func hashes(path [][]byte) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(path))
	for n, data := range path {
		one, err := hash(data)
		if err != nil {
			return nil, err
		}
		found[n] = one
	}
	return found, nil
}
