#!/usr/bin/env python3
"""Fills the outcomes of testdata/cassandra/*.txt from a live Apache Cassandra 5.0.

usage: capture.py HOST [FILE...]        (default: every file of testdata/cassandra)

A file is a list of blocks: a statement, a line '----', the outcome, an empty line. Lines that start with '#' before a
statement are comments, and '~' stands for an empty line of an outcome. Everything the server answered is written as it is: errors with code and text, schema events,
warnings, described statements, rows. 'ROWS table keyspace' stands for the rows of system_schema.table (or, given
'system_virtual_schema.table', of that one) of one keyspace: text columns are quoted, others in hex, and table ids,
which are random, become '*'. 'CHANGED table keyspace' is the same for one row, but shows only the columns that differ
from the time before.

Never let a file change a system table: Cassandra allows TRUNCATE system.local, and no driver can connect afterwards.

Only the standard library is used: a few frames of protocol v4 are enough, and drivers hide events and exact texts.
Keyspaces that start with 'schm_' are dropped before and after.
"""
import glob, json, os, re, socket, struct, sys


CHANGES_SYSTEM = re.compile(r'(?i)\b(into|update|from|truncate(\s+table|\s+columnfamily)?)\s+"?system|^\s*use\s+"?system')


def guard(text):
    """Ends the program before a statement that would change rows of a system keyspace: Cassandra without authentication
    does it, and cannot be believed about its system tables afterwards."""
    if not re.match(r'(?i)\s*(select|describe|desc|list)\b', text) and CHANGES_SYSTEM.search(text):
        sys.exit('not sent: ' + text)


class Connection:
    def __init__(self, host):
        self.before = []
        self.sock = socket.create_connection((host, 9042), timeout=60)
        self.call(1, self.strings({'CQL_VERSION': '3.0.0'}))

    @staticmethod
    def strings(m):
        out = struct.pack('>H', len(m))
        for k, v in m.items():
            for s in (k, v):
                out += struct.pack('>H', len(s)) + s.encode()
        return out

    def read(self, n):
        out = b''
        while len(out) < n:
            chunk = self.sock.recv(n - len(out))
            if not chunk:
                raise EOFError
            out += chunk
        return out

    def call(self, opcode, body):
        self.sock.sendall(struct.pack('>BBhBI', 4, 0, 1, opcode, len(body)) + body)
        _, flags, _, op, length = struct.unpack('>BBhBI', self.read(9))
        return flags, op, Reader(self.read(length))

    def query(self, text):
        guard(text)
        q = text.encode()
        return self.call(7, struct.pack('>I', len(q)) + q + struct.pack('>HB', 1, 0))


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        self.at += n
        return self.data[self.at - n:self.at]

    def num(self, fmt):
        return struct.unpack('>' + fmt, self.take(struct.calcsize(fmt)))[0]

    def string(self):
        return self.take(self.num('H')).decode()

    def value(self):
        n = self.num('i')
        return None if n < 0 else self.take(n)

    def type(self):
        kind = self.num('H')
        if kind == 0:
            self.string()
        elif kind in (0x20, 0x22):
            self.type()
        elif kind == 0x21:
            self.type(), self.type()
        elif kind == 0x30:
            self.string(), self.string()
            for _ in range(self.num('H')):
                self.string(), self.type()
        elif kind == 0x31:
            for _ in range(self.num('H')):
                self.type()
        return kind

    def rows(self):
        flags, n = self.num('i'), self.num('i')
        assert not flags & 2, 'more pages'
        if flags & 1:
            self.string(), self.string()
        columns = []
        for _ in range(n):
            if not flags & 1:
                self.string(), self.string()
            columns.append((self.string(), self.type()))
        self.columns = [name for name, _ in columns]
        return [[(name, kind, self.value()) for name, kind in columns] for _ in range(self.num('i'))]


def one_line(s):
    return s.replace('\\', '\\\\').replace('\n', '\\n')


def show(row):
    cells = dict((name, value) for name, _, value in row)
    if 'create_statement' in cells or set(cells) == {'keyspace_name', 'type', 'name'}:
        head = ' '.join(cells[c].decode() for c in ('keyspace_name', 'type', 'name'))
        if 'create_statement' not in cells:
            return [head]
        return ['[%s]' % head] + cells['create_statement'].decode().split('\n')
    out = []
    for name, kind, value in row:
        if value is None:
            text = 'null'
        elif name == 'id' and not cells['keyspace_name'].startswith(b'system'):
            text = '*'
        elif kind == 0x0D:
            text = json.dumps(value.decode(), ensure_ascii=False)
        else:
            text = '0x' + value.hex()
        out.append(name + '=' + text)
    return [' '.join(out)]


def changed(line, before):
    cells = [c for c in re.findall(r'(\w+=(?:"(?:[^"\\]|\\.)*"|\S+))', line)]
    out = [c for c in cells if c not in before]
    before[:] = cells
    return out or ['nothing']


def outcome(conn, statement):
    out = answer(conn, statement)
    if statement.startswith('CHANGED ') and len(out) == 1:
        return changed(out[0], conn.before)
    return [line or '~' for line in out]


def answer(conn, statement):
    query = statement
    if statement.startswith(('ROWS ', 'CHANGED ')):
        table, keyspace = statement.split()[1:]
        if '.' not in table:
            table = 'system_schema.' + table
        query = "SELECT * FROM %s WHERE keyspace_name = '%s'" % (table, keyspace)
    flags, op, r = conn.query(query)
    out = []
    if flags & 8:
        out += ['warning: ' + one_line(r.string()) for _ in range(r.num('H'))]
    if op == 0:
        code, text = r.num('i'), r.string()
        out.append('error 0x%04X %s' % (code, one_line(text)))
        if code == 0x2400:
            out.append('exists: ' + r.string() + '.' + r.string())
        return out
    kind = r.num('i')
    if kind == 1:
        out.append('void')
    elif kind == 2:
        rows = r.rows()
        if statement.startswith('SELECT '):
            out.append('columns ' + ' '.join(r.columns))
        for row in rows:
            out += show(row)
    elif kind == 5:
        change, target, parts = r.string(), r.string(), [r.string()]
        if target != 'KEYSPACE':
            parts.append(r.string())
        out.append(' '.join([change, target] + parts))
    else:
        out.append('result kind %d' % kind)
    return out


def capture(conn, path):
    lines = open(path, encoding='utf-8').read().split('\n')
    out, statement, i = [], [], 0
    while i < len(lines):
        line = lines[i]
        i += 1
        if line == '----':
            while i < len(lines) and lines[i] != '':
                i += 1
            out += statement + ['----'] + outcome(conn, '\n'.join(statement))
            statement = []
        elif line.startswith('#') and not statement:
            out.append(line)
        elif line == '' and statement:
            out += statement + ['----'] + outcome(conn, '\n'.join(statement)) + ['']
            statement = []
        elif line == '':
            if out and out[-1] != '':
                out.append('')
        else:
            statement.append(line)
    open(path, 'w', encoding='utf-8').write('\n'.join(out).rstrip('\n') + '\n')


def clean(conn):
    _, _, r = conn.query('SELECT keyspace_name FROM system_schema.keyspaces')
    r.num('i')
    for row in r.rows():
        name = row[0][2].decode()
        if name.lower().startswith('schm_'):
            conn.query('DROP KEYSPACE "%s"' % name)


def main():
    host, files = sys.argv[1], sys.argv[2:]
    if not files:
        files = sorted(glob.glob(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'cassandra', '*.txt')))
    conn = Connection(host)
    for path in files:
        clean(conn)
        capture(conn, path)
    clean(conn)


main()
