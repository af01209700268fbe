package cql

// kind is the type of a token. Keywords are ordered so that the classes of unreserved words are ranges.
type kind uint8

// The kinds of tokens.
const (
	tEOF    kind = iota
	tHidden      // white space and comments: only error messages look at them
	tIdent
	tQuoted
	tEmptyQuoted
	tString
	tInteger
	tFloat
	tBoolean
	tDuration
	tUUID
	tHex
	tQmark
	tRange
	tSemicolon
	tLParen
	tRParen
	tComma
	tLBracket
	tRBracket
	tLBrace
	tRBrace
	tColon
	tDot
	tEq
	tLt
	tLte
	tGt
	tGte
	tNeq
	tPlus
	tMinus
	tPlusEq
	tMinusEq
	tStar
	tSlash
	tPercent
	tExpr

	// Unreserved words that may be any name.
	kKeys
	kAs
	kCluster
	kClustering
	kCompact
	kStorage
	kTables
	kType
	kTypes
	kValues
	kMap
	kList
	kFiltering
	kPermission
	kPermissions
	kKeyspaces
	kAll
	kUser
	kUsers
	kRole
	kRoles
	kIdentity
	kSuperuser
	kNosuperuser
	kLogin
	kNologin
	kOptions
	kPassword
	kHashed
	kExists
	kCustom
	kTrigger
	kContains
	kInternals
	kOnly
	kStatic
	kFrozen
	kTuple
	kFunction
	kFunctions
	kAggregate
	kAggregates
	kSfunc
	kStype
	kFinalfunc
	kInitcond
	kReturns
	kLanguage
	kCalled
	kInput
	kLike
	kPer
	kPartition
	kGroup
	kDatacenters
	kCidrs
	kAccess
	kDefault
	kMbean
	kMbeans
	kReplace
	kUnset
	kMasked
	kUnmask
	kSelectMasked
	kVector
	kAnn

	// Native types: any name but that of a user type.
	kAscii
	kBigint
	kBlob
	kBoolean
	kCounter
	kDecimal
	kDouble
	kDuration
	kFloat
	kInet
	kInt
	kSmallint
	kText
	kTimestamp
	kTinyint
	kUuid
	kVarchar
	kVarint
	kTimeuuid
	kDate
	kTime

	// Unreserved words that may not be the name of a function (or type, but for KEY).
	kTtl
	kCount
	kWritetime
	kMaxwritetime
	kKey
	kCast
	kJson
	kDistinct

	// Reserved words.
	kSelect
	kFrom
	kWhere
	kAnd
	kEntries
	kFull
	kInsert
	kUpdate
	kWith
	kLimit
	kUsing
	kUse
	kSet
	kBegin
	kUnlogged
	kBatch
	kApply
	kTruncate
	kDelete
	kIn
	kCreate
	kSchema
	kKeyspace
	kColumnfamily
	kMaterialized
	kView
	kIndex
	kOn
	kTo
	kDrop
	kPrimary
	kInto
	kAlter
	kRename
	kAdd
	kOrder
	kBy
	kAsc
	kDesc
	kAllow
	kIf
	kIs
	kGrant
	kOf
	kRevoke
	kModify
	kAuthorize
	kDescribe
	kExecute
	kNorecursive
	kToken
	kNull
	kNot
	kPositiveNan
	kNegativeNan
	kPositiveInfinity
	kNegativeInfinity
	kOr

	kindCount
)

const (
	firstBasic   = kKeys
	lastBasic    = kAnn
	firstNative  = kAscii
	lastNative   = kTime
	firstSpecial = kTtl
	lastSpecial  = kDistinct
)

// basicUnreserved: may be any name.
func (k kind) basicUnreserved() bool { return k >= firstBasic && k <= lastBasic }

// nativeType: is the name of a native type.
func (k kind) nativeType() bool { return k >= firstNative && k <= lastNative }

// unreserved: may be a name of anything but functions and types.
func (k kind) unreserved() bool { return k >= firstBasic && k <= lastSpecial }

// identLike: can stand where an identifier is wanted.
func (k kind) identLike() bool { return k == tIdent || k == tQuoted || k.unreserved() }

// cidentLike: identLike or the empty quoted name, for columns.
func (k kind) cidentLike() bool { return k == tEmptyQuoted || k.identLike() }

// functionName: can stand where a function's name is wanted.
func (k kind) functionName() bool {
	return k == tIdent || k == tQuoted || k >= firstBasic && k <= lastNative || k == kToken || k == kCount
}

// typeName: can stand where a user type's name is wanted.
func (k kind) typeName() bool {
	return k == tIdent || k == tQuoted || k.basicUnreserved() || k == kKey
}

// name returns the kind as Cassandra's messages show it after "expecting".
func (k kind) name() string { return kindNames[k] }

var kindNames = [kindCount]string{
	tEOF:              "EOF",
	tIdent:            "IDENT",
	tQuoted:           "QUOTED_NAME",
	tEmptyQuoted:      "EMPTY_QUOTED_NAME",
	tString:           "STRING_LITERAL",
	tInteger:          "INTEGER",
	tFloat:            "FLOAT",
	tBoolean:          "BOOLEAN",
	tDuration:         "DURATION",
	tUUID:             "UUID",
	tHex:              "HEXNUMBER",
	tQmark:            "QMARK",
	tRange:            "RANGE",
	tSemicolon:        "';'",
	tLParen:           "'('",
	tRParen:           "')'",
	tComma:            "','",
	tLBracket:         "'['",
	tRBracket:         "']'",
	tLBrace:           "'{'",
	tRBrace:           "'}'",
	tColon:            "':'",
	tDot:              "'.'",
	tEq:               "'='",
	tLt:               "'<'",
	tLte:              "'<='",
	tGt:               "'>'",
	tGte:              "'>='",
	tNeq:              "'!='",
	tPlus:             "'+'",
	tMinus:            "'-'",
	tPlusEq:           "'+='",
	tMinusEq:          "'-='",
	tStar:             "'*'",
	tSlash:            "'/'",
	tPercent:          "'%'",
	tExpr:             "'expr('",
	kKeys:             "K_KEYS",
	kAs:               "K_AS",
	kCluster:          "K_CLUSTER",
	kClustering:       "K_CLUSTERING",
	kCompact:          "K_COMPACT",
	kStorage:          "K_STORAGE",
	kTables:           "K_TABLES",
	kType:             "K_TYPE",
	kTypes:            "K_TYPES",
	kValues:           "K_VALUES",
	kMap:              "K_MAP",
	kList:             "K_LIST",
	kFiltering:        "K_FILTERING",
	kPermission:       "K_PERMISSION",
	kPermissions:      "K_PERMISSIONS",
	kKeyspaces:        "K_KEYSPACES",
	kAll:              "K_ALL",
	kUser:             "K_USER",
	kUsers:            "K_USERS",
	kRole:             "K_ROLE",
	kRoles:            "K_ROLES",
	kIdentity:         "K_IDENTITY",
	kSuperuser:        "K_SUPERUSER",
	kNosuperuser:      "K_NOSUPERUSER",
	kLogin:            "K_LOGIN",
	kNologin:          "K_NOLOGIN",
	kOptions:          "K_OPTIONS",
	kPassword:         "K_PASSWORD",
	kHashed:           "K_HASHED",
	kExists:           "K_EXISTS",
	kCustom:           "K_CUSTOM",
	kTrigger:          "K_TRIGGER",
	kContains:         "K_CONTAINS",
	kInternals:        "K_INTERNALS",
	kOnly:             "K_ONLY",
	kStatic:           "K_STATIC",
	kFrozen:           "K_FROZEN",
	kTuple:            "K_TUPLE",
	kFunction:         "K_FUNCTION",
	kFunctions:        "K_FUNCTIONS",
	kAggregate:        "K_AGGREGATE",
	kAggregates:       "K_AGGREGATES",
	kSfunc:            "K_SFUNC",
	kStype:            "K_STYPE",
	kFinalfunc:        "K_FINALFUNC",
	kInitcond:         "K_INITCOND",
	kReturns:          "K_RETURNS",
	kLanguage:         "K_LANGUAGE",
	kCalled:           "K_CALLED",
	kInput:            "K_INPUT",
	kLike:             "K_LIKE",
	kPer:              "K_PER",
	kPartition:        "K_PARTITION",
	kGroup:            "K_GROUP",
	kDatacenters:      "K_DATACENTERS",
	kCidrs:            "K_CIDRS",
	kAccess:           "K_ACCESS",
	kDefault:          "K_DEFAULT",
	kMbean:            "K_MBEAN",
	kMbeans:           "K_MBEANS",
	kReplace:          "K_REPLACE",
	kUnset:            "K_UNSET",
	kMasked:           "K_MASKED",
	kUnmask:           "K_UNMASK",
	kSelectMasked:     "K_SELECT_MASKED",
	kVector:           "K_VECTOR",
	kAnn:              "K_ANN",
	kAscii:            "K_ASCII",
	kBigint:           "K_BIGINT",
	kBlob:             "K_BLOB",
	kBoolean:          "K_BOOLEAN",
	kCounter:          "K_COUNTER",
	kDecimal:          "K_DECIMAL",
	kDouble:           "K_DOUBLE",
	kDuration:         "K_DURATION",
	kFloat:            "K_FLOAT",
	kInet:             "K_INET",
	kInt:              "K_INT",
	kSmallint:         "K_SMALLINT",
	kText:             "K_TEXT",
	kTimestamp:        "K_TIMESTAMP",
	kTinyint:          "K_TINYINT",
	kUuid:             "K_UUID",
	kVarchar:          "K_VARCHAR",
	kVarint:           "K_VARINT",
	kTimeuuid:         "K_TIMEUUID",
	kDate:             "K_DATE",
	kTime:             "K_TIME",
	kTtl:              "K_TTL",
	kCount:            "K_COUNT",
	kWritetime:        "K_WRITETIME",
	kMaxwritetime:     "K_MAXWRITETIME",
	kKey:              "K_KEY",
	kCast:             "K_CAST",
	kJson:             "K_JSON",
	kDistinct:         "K_DISTINCT",
	kSelect:           "K_SELECT",
	kFrom:             "K_FROM",
	kWhere:            "K_WHERE",
	kAnd:              "K_AND",
	kEntries:          "K_ENTRIES",
	kFull:             "K_FULL",
	kInsert:           "K_INSERT",
	kUpdate:           "K_UPDATE",
	kWith:             "K_WITH",
	kLimit:            "K_LIMIT",
	kUsing:            "K_USING",
	kUse:              "K_USE",
	kSet:              "K_SET",
	kBegin:            "K_BEGIN",
	kUnlogged:         "K_UNLOGGED",
	kBatch:            "K_BATCH",
	kApply:            "K_APPLY",
	kTruncate:         "K_TRUNCATE",
	kDelete:           "K_DELETE",
	kIn:               "K_IN",
	kCreate:           "K_CREATE",
	kSchema:           "K_SCHEMA",
	kKeyspace:         "K_KEYSPACE",
	kColumnfamily:     "K_COLUMNFAMILY",
	kMaterialized:     "K_MATERIALIZED",
	kView:             "K_VIEW",
	kIndex:            "K_INDEX",
	kOn:               "K_ON",
	kTo:               "K_TO",
	kDrop:             "K_DROP",
	kPrimary:          "K_PRIMARY",
	kInto:             "K_INTO",
	kAlter:            "K_ALTER",
	kRename:           "K_RENAME",
	kAdd:              "K_ADD",
	kOrder:            "K_ORDER",
	kBy:               "K_BY",
	kAsc:              "K_ASC",
	kDesc:             "K_DESC",
	kAllow:            "K_ALLOW",
	kIf:               "K_IF",
	kIs:               "K_IS",
	kGrant:            "K_GRANT",
	kOf:               "K_OF",
	kRevoke:           "K_REVOKE",
	kModify:           "K_MODIFY",
	kAuthorize:        "K_AUTHORIZE",
	kDescribe:         "K_DESCRIBE",
	kExecute:          "K_EXECUTE",
	kNorecursive:      "K_NORECURSIVE",
	kToken:            "K_TOKEN",
	kNull:             "K_NULL",
	kNot:              "K_NOT",
	kPositiveNan:      "K_POSITIVE_NAN",
	kNegativeNan:      "K_NEGATIVE_NAN",
	kPositiveInfinity: "K_POSITIVE_INFINITY",
	kNegativeInfinity: "K_NEGATIVE_INFINITY",
	kOr:               "K_OR",
}

// keywordLenMax is the length of the longest keyword.
const keywordLenMax = 14

// keyword returns the kind of an unquoted word in lower case: a keyword, a boolean or tIdent.
func keyword(word []byte) kind {
	switch string(word) {
	case "select":
		return kSelect
	case "from":
		return kFrom
	case "as":
		return kAs
	case "where":
		return kWhere
	case "and":
		return kAnd
	case "key":
		return kKey
	case "keys":
		return kKeys
	case "entries":
		return kEntries
	case "full":
		return kFull
	case "insert":
		return kInsert
	case "update":
		return kUpdate
	case "with":
		return kWith
	case "limit":
		return kLimit
	case "per":
		return kPer
	case "partition":
		return kPartition
	case "using":
		return kUsing
	case "use":
		return kUse
	case "distinct":
		return kDistinct
	case "count":
		return kCount
	case "set":
		return kSet
	case "begin":
		return kBegin
	case "unlogged":
		return kUnlogged
	case "batch":
		return kBatch
	case "apply":
		return kApply
	case "truncate":
		return kTruncate
	case "delete":
		return kDelete
	case "in":
		return kIn
	case "create":
		return kCreate
	case "schema":
		return kSchema
	case "keyspace":
		return kKeyspace
	case "keyspaces":
		return kKeyspaces
	case "columnfamily", "table":
		return kColumnfamily
	case "columnfamilies", "tables":
		return kTables
	case "materialized":
		return kMaterialized
	case "view":
		return kView
	case "index":
		return kIndex
	case "custom":
		return kCustom
	case "on":
		return kOn
	case "to":
		return kTo
	case "drop":
		return kDrop
	case "primary":
		return kPrimary
	case "into":
		return kInto
	case "values":
		return kValues
	case "timestamp":
		return kTimestamp
	case "ttl":
		return kTtl
	case "cast":
		return kCast
	case "alter":
		return kAlter
	case "rename":
		return kRename
	case "add":
		return kAdd
	case "type":
		return kType
	case "types":
		return kTypes
	case "compact":
		return kCompact
	case "storage":
		return kStorage
	case "order":
		return kOrder
	case "by":
		return kBy
	case "asc":
		return kAsc
	case "desc":
		return kDesc
	case "allow":
		return kAllow
	case "filtering":
		return kFiltering
	case "if":
		return kIf
	case "is":
		return kIs
	case "contains":
		return kContains
	case "group":
		return kGroup
	case "cluster":
		return kCluster
	case "internals":
		return kInternals
	case "only":
		return kOnly
	case "grant":
		return kGrant
	case "all":
		return kAll
	case "permission":
		return kPermission
	case "permissions":
		return kPermissions
	case "of":
		return kOf
	case "revoke":
		return kRevoke
	case "modify":
		return kModify
	case "authorize":
		return kAuthorize
	case "describe":
		return kDescribe
	case "execute":
		return kExecute
	case "norecursive":
		return kNorecursive
	case "mbean":
		return kMbean
	case "mbeans":
		return kMbeans
	case "user":
		return kUser
	case "users":
		return kUsers
	case "role":
		return kRole
	case "roles":
		return kRoles
	case "superuser":
		return kSuperuser
	case "nosuperuser":
		return kNosuperuser
	case "password":
		return kPassword
	case "hashed":
		return kHashed
	case "login":
		return kLogin
	case "nologin":
		return kNologin
	case "options":
		return kOptions
	case "access":
		return kAccess
	case "datacenters":
		return kDatacenters
	case "cidrs":
		return kCidrs
	case "identity":
		return kIdentity
	case "clustering":
		return kClustering
	case "ascii":
		return kAscii
	case "bigint":
		return kBigint
	case "blob":
		return kBlob
	case "boolean":
		return kBoolean
	case "counter":
		return kCounter
	case "decimal":
		return kDecimal
	case "double":
		return kDouble
	case "duration":
		return kDuration
	case "float":
		return kFloat
	case "inet":
		return kInet
	case "int":
		return kInt
	case "smallint":
		return kSmallint
	case "tinyint":
		return kTinyint
	case "text":
		return kText
	case "uuid":
		return kUuid
	case "varchar":
		return kVarchar
	case "varint":
		return kVarint
	case "timeuuid":
		return kTimeuuid
	case "token":
		return kToken
	case "writetime":
		return kWritetime
	case "maxwritetime":
		return kMaxwritetime
	case "date":
		return kDate
	case "time":
		return kTime
	case "null":
		return kNull
	case "not":
		return kNot
	case "exists":
		return kExists
	case "map":
		return kMap
	case "list":
		return kList
	case "nan":
		return kPositiveNan
	case "infinity":
		return kPositiveInfinity
	case "tuple":
		return kTuple
	case "trigger":
		return kTrigger
	case "static":
		return kStatic
	case "frozen":
		return kFrozen
	case "function":
		return kFunction
	case "functions":
		return kFunctions
	case "aggregate":
		return kAggregate
	case "aggregates":
		return kAggregates
	case "sfunc":
		return kSfunc
	case "stype":
		return kStype
	case "finalfunc":
		return kFinalfunc
	case "initcond":
		return kInitcond
	case "returns":
		return kReturns
	case "called":
		return kCalled
	case "input":
		return kInput
	case "language":
		return kLanguage
	case "or":
		return kOr
	case "replace":
		return kReplace
	case "json":
		return kJson
	case "default":
		return kDefault
	case "unset":
		return kUnset
	case "like":
		return kLike
	case "masked":
		return kMasked
	case "unmask":
		return kUnmask
	case "select_masked":
		return kSelectMasked
	case "vector":
		return kVector
	case "ann":
		return kAnn
	case "true", "false":
		return tBoolean
	}
	return tIdent
}
