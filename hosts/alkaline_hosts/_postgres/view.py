"""The view that a person reads with psql: the runs of a store, decoded by the database when it is asked.

It costs a commit nothing. ``id``, ``workflow`` and ``status`` stand in the keys of an index; the other columns are read
out of the record, a msgpack map (SPEC.md, section 5), by functions of SQL. A record that is sealed, or is not of the
shape that they know, gives null in those columns and never an error.
"""

from __future__ import annotations

_UNSIGNED = """
CREATE FUNCTION {table}_unsigned_1(data bytea, place integer, size integer) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT ('x' || lpad(encode(substring(data FROM place + 1 FOR size), 'hex'), 16, '0'))::bit(64)::bigint
$$
"""

_FLOAT = """
CREATE FUNCTION {table}_float_1(bits bigint) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
  sign float8 := CASE WHEN bits < 0 THEN -1 ELSE 1 END;
  power integer := (bits >> 52) & 2047;
  fraction float8 := (bits & 4503599627370495) / 4503599627370496::float8;
BEGIN
  IF power = 2047 THEN  -- which JSON has no number for
    RETURN to_jsonb(CASE WHEN fraction > 0 THEN 'NaN' WHEN sign > 0 THEN 'Infinity' ELSE '-Infinity' END);
  ELSIF power = 0 THEN
    RETURN to_jsonb(CASE WHEN fraction = 0 THEN 0 ELSE sign * fraction * 2::float8 ^ -1022 END);
  END IF;
  RETURN to_jsonb(sign * (1 + fraction) * 2::float8 ^ (power - 1023));
END $body$
"""

_UNPACK = """
CREATE FUNCTION {table}_unpack_1(data bytea, wanted boolean, INOUT place integer, OUT value jsonb)
LANGUAGE plpgsql IMMUTABLE AS $body$
DECLARE
  head integer := get_byte(data, place);
  width integer;
  size integer;
  n numeric;
  name text;
  item record;
BEGIN
  place := place + 1;
  -- One byte, or a number.
  IF head < 128 OR head >= 224 THEN
    value := to_jsonb(CASE WHEN head < 128 THEN head ELSE head - 256 END);
    RETURN;
  ELSIF head IN (192, 194, 195) THEN
    value := CASE head WHEN 192 THEN 'null' WHEN 194 THEN 'false' ELSE 'true' END;
    RETURN;
  ELSIF head = 203 THEN
    value := {table}_float_1({table}_unsigned_1(data, place, 8));
    place := place + 8;
    RETURN;
  ELSIF head BETWEEN 204 AND 211 THEN
    width := 1 << ((head - 204) % 4);
    n := {table}_unsigned_1(data, place, width);
    IF head = 207 AND n < 0 THEN
      n := n + 18446744073709551616;
    ELSIF head BETWEEN 208 AND 210 AND n >= 1::bigint << (width * 8 - 1) THEN
      n := n - (1::bigint << (width * 8));
    END IF;
    value := to_jsonb(n);
    place := place + width;
    RETURN;
  END IF;
  -- What has a size: in the head itself, or in 1, 2 or 4 bytes behind it.
  width := CASE
    WHEN head IN (196, 199, 217) THEN 1 WHEN head IN (197, 200, 218, 220, 222) THEN 2
    WHEN head IN (198, 201, 219, 221, 223) THEN 4 ELSE 0 END;
  size := CASE
    WHEN width > 0 THEN {table}_unsigned_1(data, place, width)
    WHEN head < 160 THEN head & 15 WHEN head < 192 THEN head & 31 ELSE 1 << (head - 212) END;
  place := place + width;
  IF head < 144 OR head IN (222, 223) THEN
    value := '{{}}';
    FOR i IN 1 .. size LOOP
      item := {table}_unpack_1(data, true, place);
      name := item.value #>> '{{}}';
      item := {table}_unpack_1(data, wanted, item.place);
      place := item.place;
      IF wanted THEN
        value := value || jsonb_build_object(name, item.value);
      END IF;
    END LOOP;
  ELSIF head < 160 OR head IN (220, 221) THEN
    value := '[]';
    FOR i IN 1 .. size LOOP
      item := {table}_unpack_1(data, wanted, place);
      place := item.place;
      IF wanted THEN
        value := value || jsonb_build_array(item.value);
      END IF;
    END LOOP;
  ELSIF head < 192 OR head BETWEEN 217 AND 219 THEN
    IF wanted AND position('\\x00'::bytea IN substring(data FROM place + 1 FOR size)) > 0 THEN
      value := to_jsonb('(a text with NUL in it)'::text);  -- which Postgres takes in no text
    ELSIF wanted THEN
      value := to_jsonb(convert_from(substring(data FROM place + 1 FOR size), 'UTF8'));
    END IF;
    place := place + size;
  ELSE
    value := to_jsonb(format('(%s bytes)', size));
    place := place + size + CASE WHEN head < 199 THEN 0 ELSE 1 END;  -- an ext has a type
  END IF;
END $body$
"""

_RECORD = """
CREATE FUNCTION {table}_record_1(data bytea) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT
AS $body$
DECLARE
  place integer := 1;
  size integer;
  width integer;
  name text;
  names text[] := '{{}}';
  item record;
  items jsonb[] := '{{}}';
BEGIN
  size := get_byte(data, 0) & 15;
  IF get_byte(data, 0) = 222 THEN
    size := {table}_unsigned_1(data, 1, 2);
    place := 3;
  ELSIF get_byte(data, 0) NOT BETWEEN 128 AND 143 THEN
    RETURN NULL;
  END IF;
  FOR i IN 1 .. size LOOP
    width := get_byte(data, place) - 160;  -- every name in a record is a text of up to 31 bytes
    IF width NOT BETWEEN 0 AND 31 THEN
      RETURN NULL;
    END IF;
    name := convert_from(substring(data FROM place + 2 FOR width), 'UTF8');
    item := {table}_unpack_1(data, name NOT IN ('result', 'head'), place + 1 + width);
    place := item.place;
    names := names || name;
    items := items || item.value;
  END LOOP;
  IF place = length(data) THEN
    RETURN (SELECT jsonb_object_agg(n, v) FROM unnest(names, items) AS u(n, v));
  END IF;
  RETURN NULL;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $body$
"""

_VIEW = """
CREATE VIEW {table}_runs AS
SELECT
  split_part(x.key, '/', 5) AS id,
  split_part(x.key, '/', 4) AS workflow,
  (d.record ->> 'version')::integer AS version,
  split_part(x.key, '/', 3) AS status,
  CASE WHEN jsonb_typeof(d.record -> 'waiting') = 'array' THEN
    (SELECT string_agg(w, ', ') FROM jsonb_array_elements_text(d.record -> 'waiting') w) END AS waiting,
  to_timestamp((d.record ->> 'wake_at')::float8 / 1000) AS wake_at,
  to_timestamp((d.record ->> 'updated_at')::float8 / 1000) AS updated,
  to_timestamp((d.record ->> 'created_at')::float8 / 1000) AS created,
  (d.record -> 'failure' ->> 'type') || ': ' || (d.record -> 'failure' ->> 'message') AS failure,
  d.record -> 'attributes' AS attributes,
  d.record ->> 'parent' AS parent,
  d.record ->> 'owner' AS owner,
  CASE WHEN d.record ->> 'owner' IS NOT NULL
    THEN to_timestamp((d.record ->> 'lease_until')::float8 / 1000) END AS lease_until,
  (d.record ->> 'attempt')::integer AS attempt,
  (d.record ->> 'cursor_length')::integer AS commits,
  (d.record -> 'spent' ->> 'tokens')::bigint AS tokens,
  d.record ->> 'moved_to' AS moved_to
FROM {table} x
JOIN {table} r ON r.key = 'r/' || split_part(x.key, '/', 5)
CROSS JOIN LATERAL (SELECT {table}_record_1(r.value) AS record OFFSET 0) d
WHERE x.key >= 'x/s/' AND x.key < 'x/s0'
"""


def view_of(table: str) -> str:
    """The statements that make ``table``_runs and what it needs, for the migration."""
    return ";".join(part.format(table=table) for part in (_UNSIGNED, _FLOAT, _UNPACK, _RECORD, _VIEW))
