// Things: four materials per mesh. palette[i] = colour, roughness; finish[i] = reflectance at 0 degrees, metalness,
// pattern, class of the surface.
in vec3 P; in vec3 N; in vec3 L; in float S; in float A; in float D;
uniform mat4 palette, finish; uniform vec3 mean_skin;
layout(location = 0) out vec4 albedo_out; layout(location = 1) out vec4 light_out; layout(location = 2) out vec4 gloss_out;
const float PLAIN = 0., TORTOISE = 1., CLOTH = 2., FOAM = 3., SKIN = 4., MESH = 5., CLEAR = 6., GLOW = 7., KNIT = 8.;

float cell(vec3 p) { p = fract(p * .3183099 + .1); p *= 17.; return fract(p.x * p.y * p.z * (p.x + p.y + p.z)); }
float grain(vec3 x) {
    vec3 i = floor(x), f = fract(x);
    f = f * f * (3. - 2. * f);
    return mix(mix(mix(cell(i), cell(i + vec3(1, 0, 0)), f.x), mix(cell(i + vec3(0, 1, 0)), cell(i + vec3(1, 1, 0)), f.x), f.y),
               mix(mix(cell(i + vec3(0, 0, 1)), cell(i + vec3(1, 0, 1)), f.x),
                   mix(cell(i + vec3(0, 1, 1)), cell(i + vec3(1, 1, 1)), f.x), f.y), f.z);
}
void main() {
    int i = int(S + .5);
    vec3 colour = palette[i].rgb, V = normalize(camera - P), n = normalize(N), glow = vec3(0);
    if (dot(n, V) < 0.) n = -n;
    float rough = palette[i].a, f0 = finish[i].x, metal = finish[i].y, pattern = finish[i].z, ao = A, scatter = 0.;
    vec3 wrap = vec3(.05);
    if (pattern == TORTOISE) {
        float m = grain(L * vec3(16., 20., 9.)) * .65 + grain(L * vec3(41., 37., 25.)) * .35;
        colour = mix(vec3(.012, .005, .003), colour, smoothstep(.42, .62, m));
    } else if (pattern == CLOTH) {
        colour *= .80 + .14 * grain(L * 90.) + .10 * grain(L * 7.);
        colour *= mix(.45, 1., smoothstep(0., .10, D));
        wrap = vec3(.12);
    } else if (pattern == KNIT) {
        colour *= (.70 + .30 * D) * (.85 + .3 * grain(L * vec3(26., 60., 26.)));
        wrap = vec3(.2);
    } else if (pattern == FOAM) {
        float pits = grain(L * 70.) * .6 + grain(L * 150.) * .4;
        colour *= .55 + .75 * pits; ao *= .75 + .35 * pits; wrap = vec3(.25);
    } else if (pattern == MESH) {
        vec3 w = abs(fract(L * 26.) - .5);
        colour *= .45 + 1.1 * smoothstep(.12, .40, max(w.x, w.y));
    } else if (pattern == CLEAR) {
        float edge = 1. - abs(dot(n, V));  // one sees the skin through it, and light in its edges
        colour *= mix(mean_skin, vec3(.62), .12 + .5 * edge * edge); wrap = vec3(.5);
    } else if (pattern == GLOW) {
        glow = colour; colour *= .2;
    } else if (pattern == SKIN) {
        // D is the nail from 0 to 1, and the palm from 0 to -1.
        float nail = smoothstep(.50, .75, D), cuticle = smoothstep(.12, .45, D) * (1. - nail), palm = clamp(-D, 0., 1.);
        float mottle = grain(L * 6.) * .6 + grain(L * 19.) * .4;
        vec3 q = L * mix(vec3(30., 46., 30.), vec3(22.), palm);
        float h = grain(q);
        vec3 g = vec3(grain(q + vec3(.1, 0, 0)), grain(q + vec3(0, .1, 0)), grain(q + vec3(0, 0, .1))) - h;
        n = normalize(n - .55 * (1. - nail) * (g - n * dot(g, n)));
        colour *= mix(vec3(.97, .93, .92), vec3(1.05, .93, .90), smoothstep(.35, .75, mottle)) * (.90 + .14 * h);
        colour = mix(colour, mix(colour, vec3(.42, .24, .19), .30), palm);
        colour *= mix(vec3(.62, .42, .38), vec3(1), ao) * mix(1., .62, cuticle);
        colour = mix(colour, colour * vec3(1.05, .88, .88) + vec3(.085, .055, .055), nail);
        rough = mix(rough, .22, nail); f0 = mix(f0, .05, nail);
        wrap = vec3(.38, .20, .13) * (1. - nail * .5); scatter = 1. - .7 * nail;
    }
    float lit = shadow(P, n);
    vec3 d = clamp((vec3(dot(n, key_direction)) + wrap) / (1. + wrap), 0., 1.);
    vec3 around = surround(n), rim = rim_colour * clamp((dot(n, rim_direction) + wrap.r) / (1. + wrap.r), 0., 1.);
    vec3 light = d * (scatter > .5 ? pow(vec3(lit), vec3(.65, 1., 1.15)) : vec3(lit)) * key_colour + around * ao + rim * ao;
    vec3 H = normalize(key_direction + V), Hr = normalize(rim_direction + V), R = reflect(-V, n);
    vec3 f = mix(vec3(f0), colour, metal), a2 = vec3(rough * rough);
    vec3 grazing = f + (max(vec3(1. - rough), f) - f) * schlick(dot(n, V));
    float facing = 4. * max(dot(n, V), .25);
    vec3 gloss = (f + (1. - f) * schlick(dot(H, V))) * ggx(n, H, max(a2.x, .004)) / facing * clamp(dot(n, key_direction), 0., 1.) * lit * key_colour;
    gloss += rim_colour * f * ggx(n, Hr, max(a2.x, .01)) / facing * clamp(dot(n, rim_direction), 0., 1.) * ao;
    // A room is darker below and has its light where the key comes from: metals need that contrast.
    vec3 room = surround(R) + key_colour * .5 * smoothstep(.5, .95, dot(R, key_direction)) * (1. - rough);
    gloss += room * grazing * ao;
    albedo_out = vec4(colour * (1. - metal), 1); light_out = vec4(light, scatter);
    gloss_out = vec4(min(gloss, vec3(4)) + glow, finish[i].w);
}
