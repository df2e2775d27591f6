in vec3 P; in vec3 N; in vec3 D; in vec3 E;
uniform float surface_class, nasal; uniform vec3 eye_x, eye_y, eye_z;
uniform vec3 iris_outer, iris_inner; uniform float pupil; uniform vec2 lids;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
float h1(float x) { return fract(sin(x * 127.1) * 43758.5453); }
float n1(float x, float period) { float i = floor(x), f = fract(x); f = f * f * (3. - 2. * f); return mix(h1(mod(i, period)), h1(mod(i + 1., period)), f); }
void main() {
    vec3 n = normalize(N), V = normalize(camera - P), d = normalize(D);
    float facing = max(dot(n, V), 0.);
    // The iris lies behind the cornea: seen from the side it shifts towards the viewer's side.
    float across = length(d.xy);
    vec2 deep = d.xy - .12 * vec2(dot(V, eye_x), dot(V, eye_y)) / max(dot(V, eye_z), .4) * smoothstep(.56, .40, across);
    float theta = d.z > 0. ? asin(min(length(deep), 1.)) : 3.14159 - asin(min(across, 1.));
    float u = atan(deep.y, deep.x) / 6.28318 + .5, r = theta / .47;
    float fibres = n1(u * 90., 90.) * .5 + n1(u * 41., 41.) * .35 + n1(u * 170. + 3., 170.) * .25;
    float collarette = smoothstep(.10, .0, abs(r - pupil - .20 - .05 * n1(u * 24., 24.)));
    vec3 iris = mix(iris_inner, iris_outer, smoothstep(pupil, pupil + .40, r + .25 * (n1(u * 34., 34.) - .5))) * (.50 + .95 * fibres + .30 * collarette);
    iris *= 1. - .72 * smoothstep(.72, .98, r);
    // Light that enters the cornea gathers on the far side of the iris.
    vec2 lamp = key_direction.xy / max(length(key_direction.xy), .2);
    float caustic = clamp(dot(deep / max(length(deep), 1e-3), -lamp), 0., 1.) * smoothstep(.9, .6, r) * smoothstep(pupil, pupil + .2, r);
    iris *= 1. + 1.3 * caustic * caustic;
    iris = mix(vec3(.003), iris, smoothstep(pupil - .04, pupil + .05, r));
    float vein = pow(n1(u * 60. + 6. * n1(theta * 14., 99.), 999.), 6.) * smoothstep(1.25, 2.4, r);
    // The white is yellowish and red towards the corners; the inner one ends in the caruncle.
    float corner = smoothstep(.52, .92, abs(E.x)), caruncle = smoothstep(.70, .80, E.x * nasal);
    vec3 white = vec3(.50, .445, .405) * mix(vec3(1), vec3(.92, .58, .52), clamp(.45 * vein + .45 * corner, 0., 1.));
    white = mix(white, vec3(.50, .21, .18), caruncle);
    vec3 albedo = mix(iris, white, smoothstep(.93, 1.05, r));
    // The lids shade the ball: darker near their edges and in the corners.
    float under = lids.y - E.y, above = E.y - lids.x;
    float ao = mix(.16, 1., smoothstep(-.02, .40, under)) * mix(.55, 1., smoothstep(-.02, .22, above)) * mix(.50, 1., smoothstep(.95, .50, abs(E.x)));
    float lit = shadow(P, n);
    vec3 light = clamp((dot(n, key_direction) + .25) / 1.25, 0., 1.) * lit * key_colour * mix(.35, 1., ao) * ao + surround(n) * ao;
    // One lamp's mirror image where the lamp is, soft boxes of the room, and the tear film along the lower lid.
    vec3 H = normalize(1.4 * key_direction + V), R = reflect(-V, n);
    float open = smoothstep(.0, .07, under) * smoothstep(-.02, .05, above);
    float lamp_size = smoothstep(.9955, .9980, dot(n, H));
    vec3 gloss = lamp_size * min(key_colour * 1.5, vec3(3.)) * mix(.45, 1., lit) * open;
    // In the middle the cornea mirrors the viewer, who is dark: pupils stay black.
    gloss += surround(R) * (.035 + .5 * schlick(facing)) * ao * 1.2 * mix(1., .25, smoothstep(.80, .96, facing));
    float window = smoothstep(.970, .982, dot(R, normalize(vec3(.55 * sign(-key_direction.x), .38, .82))));
    gloss += window * (sky_colour + fill_colour) * .12 * open;
    float tear = smoothstep(.055, .02, abs(above - .03)) * smoothstep(.9, .6, abs(E.x));
    gloss += tear * (surround(normalize(vec3(0, .7, .7))) * .30 + key_colour * .09 * lit * smoothstep(-.2, .5, dot(normalize(vec3(n.x, .6, n.z)), key_direction)));
    albedo_out = vec4(albedo, 1); light_out = vec4(light, .4); gloss_out = vec4(gloss, surface_class);
}
