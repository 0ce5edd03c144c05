// One request as the page, fetch and curl each need it. A wish is {path, fields, subjects: [{file, noun}], edges}.

/** What fetch needs; pictures go as files in a form, everything else as JSON. `more` adds fields. */
export function fetchInit(wish, more = {}) {
  const fields = { ...wish.fields, ...more };
  if (!hasPictures(wish)) {
    return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(fields) };
  }
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) body.append(name, String(value));
  for (const { file, noun } of wish.subjects) {
    body.append("image[]", file, file.name);
    body.append("noun[]", noun);
  }
  if (wish.edges) body.append("edges", wish.edges, wish.edges.name);
  return { method: "POST", body };
}

/** The same request as a command line. A token is named by its variable, never written out. */
export function curlOf(wish, { token = false } = {}) {
  const parts = [`curl -s ${new URL(wish.path, document.baseURI)}`];
  if (token) parts.push('-H "Authorization: Bearer $ECLIPSE_TOKEN"');
  if (hasPictures(wish)) {
    const fields = Object.entries(wish.fields).filter(([, value]) => value !== undefined);
    for (const [name, value] of fields) parts.push(`--form-string ${quoted(`${name}=${value}`)}`);
    for (const { file, noun } of wish.subjects) {
      parts.push(`-F ${quoted(`image[]=@${file.name}`)} --form-string ${quoted(`noun[]=${noun}`)}`);
    }
    if (wish.edges) parts.push(`-F ${quoted(`edges=@${wish.edges.name}`)}`);
  } else {
    parts.push("-H 'Content-Type: application/json'", `-d ${quoted(JSON.stringify(wish.fields))}`);
  }
  return parts.join(" \\\n  ");
}

/** The wish for one picture of a run alone: the same settings with its own seed. */
export function single(wish, seed) {
  const fields = { ...wish.fields, seed };
  if ("n" in fields) fields.n = 1;
  return { ...wish, fields };
}

const hasPictures = (wish) => wish.subjects.length > 0 || wish.edges !== null;

// For a POSIX shell: inside single quotes only a single quote needs care.
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
